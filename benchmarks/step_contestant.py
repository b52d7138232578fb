"""One contender of ``run.py step`` inside its own process: it proves itself, and runs iterations when told to."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.contestant import release_memory
from benchmarks.step_cases import Contender, Pair, make_loop

__all__ = ["enter", "release_memory"]

CEILING_RUNS = 3
PRODUCTS = (torch.float32, torch.bfloat16, torch.float16)


def resident_bytes(field: str) -> int:
    """``VmRSS``, what this process holds in memory now, or ``VmHWM``, the most it ever held; 0 off Linux.

    Not getrusage's ru_maxrss: that one is inherited from the process that started this one.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(f"{field}:")), 0)


@dataclass(frozen=True)
class Turn:
    """One iteration: seconds, the page faults that it took, and the most memory held until then beyond the imports'."""

    seconds: float
    faults: int
    peak_bytes: int


class StepContestant:
    """A loop, from its first iteration on."""

    def __init__(self, pair: Pair, contender: Contender) -> None:
        self._imports_bytes = resident_bytes("VmRSS")
        self._loop = make_loop(pair, contender)

    def prepare(self) -> dict[str, Any]:
        """What is known before the first iteration."""
        return {"imports_bytes": self._imports_bytes}

    def first(self, iterations: int, count: bool) -> dict[str, Any]:
        """The losses of the first iterations, and the images generated in one.

        ``count``: with the multiply-adds of an iteration, of convolutions and matrix products.
        """
        facts: dict[str, Any] = {}
        with FlopCounterMode(display=False) if count else nullcontext() as counter:
            losses = [self._losses()]
        if counter is not None:
            facts["multiply_adds"] = counter.get_total_flops() // 2
        losses += [self._losses() for _ in range(iterations - 1)]
        return {**facts, "losses": losses, "images": self._loop.generated_images / self._loop.iteration}

    def measure(self) -> Turn:
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        start = time.perf_counter()
        self._loop.step()
        seconds = time.perf_counter() - start
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
        return Turn(seconds, faults, resident_bytes("VmHWM") - self._imports_bytes)

    def _losses(self) -> dict[str, float]:
        return {name: torch.as_tensor(loss).item() for name, loss in self._loop.step().items()}


class Ceilings:
    """What the machine can do: matrix products, and copying."""

    def __init__(self, side: int, copied_bytes: int) -> None:
        self._side = side
        self._copied_bytes = copied_bytes

    def prepare(self) -> dict[str, Any]:
        return {}

    def measure(self) -> dict[str, float]:
        """Multiply-adds per second of matrix products by dtype, and bytes read and written per second by a copy."""
        found = {str(dtype).removeprefix("torch."): self._product(dtype) for dtype in PRODUCTS}
        source = torch.ones(self._copied_bytes, dtype=torch.uint8)
        target = torch.empty_like(source)
        found["copy"] = 2 * self._copied_bytes / fastest(lambda: target.copy_(source))
        return found

    def _product(self, dtype: torch.dtype) -> float:
        """The faster of both orders in which the second matrix can lie in memory: which one is, depends on dtype."""
        a, b = (torch.randn(self._side, self._side).to(dtype) for _ in range(2))
        return self._side**3 / min(fastest(lambda: torch.mm(a, b)), fastest(lambda: torch.mm(a, b.t())))


def fastest(call: Callable[[], object]) -> float:
    """Seconds of the fastest of a few calls after a first one: a ceiling is what nothing got in the way of."""
    call()
    seconds = []
    for _ in range(CEILING_RUNS):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def enter(*arguments: Any) -> StepContestant | Ceilings:
    """A pair and a contender, or the ceilings' sizes; then the device, which is the CPU."""
    first, second, _device = arguments
    if isinstance(first, Pair):
        return StepContestant(first, second)
    return Ceilings(first, second)
