"""One contender on one case, inside its own process: it prepares, proves itself, and measures when told to."""

from __future__ import annotations

import ctypes
import gc
import resource
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from benchmarks import contenders
from benchmarks.cases import BACKWARD, BOTH, GRAPH, INFERENCE, OPS, Case, Problem, tolerance

CEILINGS = ("copy", "read")
WIDEST_TRUTH = 2**23  # elements up to which the truth is computed in float64
RUN_SECONDS = 5e-4  # a timed run holds as many calls as fill this
MOST_CALLS = 200
SEED = 0
STEPS_BEFORE_CAPTURE = 3


@dataclass(frozen=True)
class Samples:
    """Seconds per call of each run, and page faults per call over all of them."""

    seconds: list[float]
    calls: int
    faults: float


def make_problem(case: Case, device: str) -> Problem:
    return OPS[case.op].make(case, torch.Generator(device).manual_seed(SEED))


def backward(outputs: Tensor | Sequence[Tensor], problem: Problem) -> tuple[Tensor, ...]:
    return torch.autograd.grad(outputs, problem.leaves, problem.grads)


def results(function: contenders.Contender, problem: Problem) -> list[Tensor]:
    """Outputs and gradients."""
    out = function(*problem.arguments)
    outputs = (out,) if isinstance(out, Tensor) else tuple(out)
    gradients = backward(outputs, problem) if problem.leaves else ()
    return [x.detach() for x in (*outputs, *gradients)]


def relative_error(got: Tensor, want: Tensor) -> float:
    """Sum of absolute errors over the sum of absolute values; infinite where shapes or NaNs differ."""
    if got.shape != want.shape:
        return float("inf")
    error, scale = 0.0, 0.0
    # In parts: a float64 copy of a large result would not fit beside the other contenders'.
    for g, w in zip(got.reshape(-1).split(2**22), want.reshape(-1).split(2**22), strict=True):
        g, w = g.double(), w.double()
        if not torch.equal(g.isfinite(), w.isfinite()):
            return float("inf")
        error += (g - w).nan_to_num(0, 0, 0).abs().sum().item()
        scale += w.nan_to_num(0, 0, 0).abs().sum().item()
    return error / scale if scale else (0.0 if error == 0 else float("inf"))


def release_memory() -> None:
    """Give freed memory back, so that what came before does not count."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def peak_bytes(step: Callable[[], object], device: str) -> int:
    """The most memory that torch's allocator held at once for a step, beyond what was there before it."""
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
    """Of the C++ kernels in Inductor's output: how many there are, use vectors, and read or write masks, which is
    scalar code even in the midst of vectors."""
    kernels = [k for code in codes for k in code.split('extern "C"')[1:] if "for(" in k]
    return {
        "kernels": len(kernels),
        "vectorised_kernels": sum("at::vec::" in k for k in kernels),
        "mask_kernels": sum("bool*" in k for k in kernels),
    }


def capture(step: Callable[[], object]) -> torch.cuda.CUDAGraph:
    """``step`` as a CUDA graph, after a few on a stream of their own, in which libraries choose their algorithms."""
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
    """Times runs of calls; on a GPU with events, each call after its caches were overwritten."""

    def __init__(self, device: str) -> None:
        self._device = device
        if device == "cuda":
            size = 2 * torch.cuda.get_device_properties(0).L2_cache_size
            self._flush = torch.empty(size, dtype=torch.uint8, device=device)

    def seconds(self, calls: Sequence[Callable[[], object]]) -> float:
        """Per call."""
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


class Measured:
    """Measures in turns; what a call is, is the subclass's."""

    def __init__(self, case: Case, device: str) -> None:
        self.case, self.device = case, device
        self.problem = make_problem(case, device)
        self.clock = Clock(device)
        self._calls: dict[str, int] = {}

    def calls(self, mode: str, count: int) -> list[Callable[[], object]]:
        raise NotImplementedError

    def measure(self, mode: str, warm_seconds: float, timed_seconds: float) -> Samples:
        """One turn: calls that warm up, then timed runs, at least one of each."""
        with torch.no_grad() if mode == INFERENCE else nullcontext():
            end = time.perf_counter() + warm_seconds
            fastest = float("inf")
            while True:
                fastest = min(fastest, self.clock.seconds(self.calls(mode, 1)))
                if time.perf_counter() >= end:
                    break
            count = self._calls.setdefault(mode, max(1, min(MOST_CALLS, int(RUN_SECONDS / fastest))))
            seconds: list[float] = []
            faults = 0
            end = time.perf_counter() + timed_seconds
            while not seconds or time.perf_counter() < end:
                calls = self.calls(mode, count)
                before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
                seconds.append(self.clock.seconds(calls))
                faults += resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
                del calls
            return Samples(seconds, count, faults / (count * len(seconds)))


class Contestant(Measured):
    """A contender that computes the op."""

    def __init__(self, case: Case, contender: str, device: str) -> None:
        super().__init__(case, device)
        op = OPS[case.op]
        self.contender = contender
        self.function = contenders.build(contender, op.formulas, op.ours)
        self.call = partial(self.function, *self.problem.arguments)
        self._graph: torch.cuda.CUDAGraph | None = None

    def prepare(self) -> dict[str, Any]:
        """The first calls, with compilation where there is any."""
        start = time.perf_counter()
        if not self.contender.startswith("compile"):
            self._first_calls()
            return {"first_calls_seconds": time.perf_counter() - start}
        from torch._inductor.utils import run_and_get_code

        _, codes = run_and_get_code(self._first_calls)
        return {"compile_seconds": time.perf_counter() - start, **health(codes)}

    def _first_calls(self) -> None:
        self.step()
        with torch.no_grad():
            self.call()

    def step(self) -> None:
        """Forward, and backward where the op has one."""
        out = self.call()
        if self.problem.leaves:
            backward(out, self.problem)

    def check(self) -> dict[str, Any]:
        """The error against the op's first formula, in float64 as far as that is affordable."""
        op = OPS[self.case.op]
        got = results(self.function, self.problem)
        wide = torch.float64 if self.case.elements <= WIDEST_TRUTH else torch.float32
        want = results(next(iter(op.formulas.values())), self.problem.to(wide))
        error = max((relative_error(g, w) for g, w in zip(got, want, strict=True)), default=0.0)
        del got, want
        release_memory()
        return {"error": error, "tolerance": tolerance(self.case, self.contender)}

    def peak(self) -> int:
        return peak_bytes(self.step, self.device)

    def calls(self, mode: str, count: int) -> list[Callable[[], object]]:
        if mode == BACKWARD:
            graphs = [self.call() for _ in range(count)]
            return [partial(backward, out, self.problem) for out in graphs]
        if mode == GRAPH:
            self._graph = self._graph or capture(self.step)
            return [self._graph.replay] * count
        return [self.step if mode == BOTH else self.call] * count


class Ceiling(Measured):
    """What the machine can do with the op's least bytes: copy half of them onto the other half, or read them all."""

    def __init__(self, case: Case, contender: str, device: str) -> None:
        super().__init__(case, device)
        op = OPS[case.op]
        self.moved = {mode: op.moved(self.problem, mode) for mode in (*op.modes, GRAPH)}
        self.problem = Problem(())
        self._kind = contender
        self._mode = ""
        self._buffers: tuple[Tensor, ...] = ()

    def prepare(self) -> dict[str, Any]:
        return {"moved": self.moved}

    def _allocate(self, mode: str) -> None:
        self._buffers = ()
        release_memory()
        elements = max(1, self.moved[mode] // 4)
        parts = (elements - elements // 2, elements // 2) if self._kind == "copy" else (elements,)
        # Sizes to the copy's halves agree to an element.
        self._buffers = tuple(torch.ones(min(parts) or 1, device=self.device) for _ in parts)
        self._mode = mode

    def calls(self, mode: str, count: int) -> list[Callable[[], object]]:
        if mode != self._mode:
            self._allocate(mode)
        if self._kind == "copy":
            source, target = self._buffers
            return [lambda: target.copy_(source)] * count
        (source,) = self._buffers
        return [source.sum] * count


def enter(case: Case, contender: str, device: str) -> Measured:
    """The contestant or ceiling of this name, ready to be asked."""
    kind = Ceiling if contender in CEILINGS else Contestant
    return kind(case, contender, device)
