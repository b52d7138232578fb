"""One contender on one case, in its own process: it prepares, is checked, and measures on request."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.measuring.memory import release_memory
from benchmarks.ops import contenders
from benchmarks.ops.contenders import CEILINGS
from benchmarks.ops.instruments import Clock, capture, health, peak_bytes
from benchmarks.ops.problems import Case, Problem
from benchmarks.ops.proof import backward, make_problem, relative_error, results
from benchmarks.ops.registry import BACKWARD, BOTH, GRAPH, INFERENCE, OPS, tolerance

WIDEST_TRUTH = 2**23  # largest number of elements for which the truth is computed in float64
RUN_SECONDS = 5e-4  # a timed run has enough calls to last this long
MOST_CALLS = 200


@dataclass(frozen=True)
class Samples:
    """Seconds per call of each run, and page faults per call over all runs."""

    seconds: list[float]
    calls: int
    faults: float


class Measured:
    """Measures in turns; subclasses define the call."""

    def __init__(self, case: Case, device: str) -> None:
        self.case, self.device = case, device
        self.problem = make_problem(case, device)
        self.clock = Clock(device)
        self._calls: dict[str, int] = {}

    def calls(self, mode: str, count: int) -> list[Callable[[], object]]:
        raise NotImplementedError

    def measure(self, mode: str, warm_seconds: float, timed_seconds: float) -> Samples:
        """One turn: warm-up calls, then timed runs, at least one of each."""
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
        """Runs the first calls, including compilation."""
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
        """Runs forward, and backward if the op has one."""
        out = self.call()
        if self.problem.leaves:
            backward(out, self.problem)

    def check(self) -> dict[str, Any]:
        """The error against the op's first formula, computed in float64 if it is not too large."""
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
    """The machine's limit for the op's minimum bytes: copying half of them to the other half, or reading all."""

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
        # The halves of the copy have equal sizes up to one element.
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
    """Creates the contestant or ceiling of this name."""
    kind = Ceiling if contender in CEILINGS else Contestant
    return kind(case, contender, device)
