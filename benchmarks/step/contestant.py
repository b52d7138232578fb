"""One contender of ``run.py step`` in its own process: it is checked, and runs iterations on request."""

from __future__ import annotations

import resource
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measuring.memory import resident_bytes
from benchmarks.measuring.timing import timed
from benchmarks.step.cases import Contender, Pair
from benchmarks.step.loops import make_loop
from dfad_fast import DFADTrainer
from dfad_fast.engine.graph import ITERATIONS_UNTIL_CAPTURED
from dfad_fast.profiling.hooks import StepHooks
from dfad_fast.profiling.timeline import Clock, clock_of

CEILING_RUNS = 3
FIRST_SIDE = 256  # of the multiplied matrices
SLOW_SECONDS = 2.0  # for one product, of which each side needs eight
PRODUCTS = (torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Turn:
    """One iteration: seconds, page faults, and peak memory so far beyond that of the imports."""

    seconds: float
    faults: int
    peak_bytes: int


class StepContestant:
    """A loop and its measurements, from the first iteration on."""

    def __init__(self, pair: Pair, contender: Contender, device: str) -> None:
        self._imports_bytes = resident_bytes("VmRSS")
        self._device = torch.device(device)
        self._clock = clock_of(self._device)
        self._loop = make_loop(pair, contender, device)

    def prepare(self) -> dict[str, Any]:
        """Facts that are known before the first iteration."""
        return {"imports_bytes": self._imports_bytes}

    def first(self, iterations: int, count: bool) -> dict[str, Any]:
        """The losses of the first iterations, and the images generated in one.

        ``count``: whether to add the multiply-adds of an iteration in convolutions and matrix products.
        """
        facts: dict[str, Any] = {}
        with FlopCounterMode(display=False) if count else nullcontext() as counter:
            losses = [self._losses()]
        if counter is not None:
            facts["multiply_adds"] = counter.get_total_flops() // 2
        losses += [self._losses() for _ in range(iterations - 1)]
        # In the first iterations a GPU's libraries choose algorithms. Then an iteration is captured as a graph.
        while self._device.type == "cuda" and self._loop.iteration < ITERATIONS_UNTIL_CAPTURED:
            self._loop.step()
        return {**facts, "losses": losses, "images": self._loop.generated_images / self._loop.iteration}

    def measure(self) -> Turn:
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        seconds = timed(self._loop.step, self._clock)
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
        return Turn(seconds, faults, self._peak_bytes())

    def breakdown(self) -> list[dict[str, Any]]:
        """Seconds of a trainer's iteration by phase and part, measured with hooks, which take time themselves."""
        if not isinstance(self._loop, DFADTrainer):
            return []
        hooks = StepHooks(self._loop, self._clock)
        with hooks.attached():
            self._loop.step()
        return [
            {"phase": phase, "part": part, "seconds": seconds}
            for (phase, part), seconds in hooks.timeline.seconds().items()
        ]

    def _peak_bytes(self) -> int:
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device)
        return resident_bytes("VmHWM") - self._imports_bytes

    def _losses(self) -> dict[str, float]:
        return {name: torch.as_tensor(loss).item() for name, loss in self._loop.step().items()}


class Ceilings:
    """The machine's limits: matrix products and copies."""

    def __init__(self, side: int, copied_bytes: int, device: str) -> None:
        self._side = side
        self._copied_bytes = copied_bytes
        self._device = torch.device(device)
        self._clock = clock_of(self._device)

    def prepare(self) -> dict[str, Any]:
        return {}

    def measure(self) -> dict[str, float]:
        """Multiply-adds per second of matrix products by dtype, and bytes read and written per second by a copy."""
        found = {str(dtype).removeprefix("torch."): self._product(dtype) for dtype in PRODUCTS}
        source = torch.ones(self._copied_bytes, dtype=torch.uint8, device=self._device)
        target = torch.empty_like(source)
        found["copy"] = 2 * self._copied_bytes / fastest(lambda: target.copy_(source), self._clock)
        return found

    def _product(self, dtype: torch.dtype) -> float:
        """The rate for the faster of the two memory orders of the second matrix, which depends on the dtype.

        Matrices grow until a product would be slow: float16 takes minutes on a processor that has no instructions for
        it.
        """
        side = min(FIRST_SIDE, self._side)
        seconds = self._seconds(side, dtype)
        while side < self._side and 8 * seconds < SLOW_SECONDS:  # twice the side is eight times the work
            side = min(2 * side, self._side)
            seconds = self._seconds(side, dtype)
        return side**3 / seconds

    def _seconds(self, side: int, dtype: torch.dtype) -> float:
        a, b = (torch.randn(side, side, device=self._device).to(dtype) for _ in range(2))
        return min(fastest(partial(torch.mm, a, order), self._clock) for order in (b, b.t()))


def fastest(call: Callable[[], object], clock: Clock) -> float:
    """Seconds of the fastest of a few calls after a first one, because a ceiling means the undisturbed speed."""
    call()
    return min(timed(call, clock) for _ in range(CEILING_RUNS))


def enter(*arguments: Any) -> StepContestant | Ceilings:
    """Creates a contestant from a pair and a contender, or the ceilings from their sizes; the device comes last."""
    kind = StepContestant if isinstance(arguments[0], Pair) else Ceilings
    return kind(*arguments)
