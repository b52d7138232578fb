"""Measuring instruments: time, peak memory, and whether compiled code is vectorized."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence

import torch
from torch.profiler import ProfilerActivity, profile

STEPS_BEFORE_CAPTURE = 3


def peak_bytes(step: Callable[[], object], device: str) -> int:
    """Peak bytes that torch's allocator held during a step, beyond those held before it."""
    gc.collect()
    if device == "cuda":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        step()
    events = [e for e in recorded.profiler.kineto_results.events() if e.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak


def health(codes: Sequence[str]) -> dict[str, int]:
    """Numbers of C++ kernels in Inductor's output: all, vectorized ones, and those that read or write masks, which is
    scalar code even in vectorized kernels."""
    kernels = [k for code in codes for k in code.split('extern "C"')[1:] if "for(" in k]
    return {
        "kernels": len(kernels),
        "vectorized_kernels": sum("at::vec::" in k for k in kernels),
        "mask_kernels": sum("bool*" in k for k in kernels),
    }


def capture(step: Callable[[], object]) -> torch.cuda.CUDAGraph:
    """``step`` as a CUDA graph. A few steps on a separate stream come first, in which libraries choose algorithms."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(STEPS_BEFORE_CAPTURE):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph


class Clock:
    """Times runs of calls; on a GPU with events, and with the caches overwritten before each call."""

    def __init__(self, device: str) -> None:
        self._device = device
        if device == "cuda":
            size = 2 * torch.cuda.get_device_properties(0).L2_cache_size
            self._flush = torch.empty(size, dtype=torch.uint8, device=device)

    def seconds(self, calls: Sequence[Callable[[], object]]) -> float:
        """Seconds per call."""
        if self._device == "cuda":
            return self._gpu_seconds(calls)
        start = time.perf_counter()
        for call in calls:
            call()
        return (time.perf_counter() - start) / len(calls)

    def _gpu_seconds(self, calls: Sequence[Callable[[], object]]) -> float:
        events = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in calls]
        for call, (start, end) in zip(calls, events, strict=True):
            self._flush.zero_()
            start.record()
            call()
            end.record()
        torch.cuda.synchronize()
        return sum(start.elapsed_time(end) for start, end in events) / len(events) / 1e3
