"""The phases of a run: the generator's warm-up, where the method has one, and whole iterations after it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch

from dfad_fast.engine.graph import CapturedIteration
from dfad_fast.engine.step import Iteration
from dfad_fast.methods import Method


class Phase:
    """Iterations of one kind, run as they are, or as a CUDA graph where ``noise`` is given."""

    def __init__(self, iteration: Iteration, noise: torch.Generator | None) -> None:
        self.iteration = iteration
        self._captured = CapturedIteration(iteration, noise) if noise is not None else None
        self.run = self._captured.run if self._captured else iteration.run

    def forget(self) -> None:
        """Capture anew, see :meth:`CapturedIteration.forget`."""
        if self._captured:
            self._captured.forget()


class Phases:
    """``make`` builds the iterations of a method; ``captured`` is the source of noise of CUDA graphs, if any."""

    def __init__(
        self, make: Callable[[Method], Iteration], method: Method, captured: torch.Generator | None
    ) -> None:
        self._share = method.warm_up
        self._whole = Phase(make(method), captured)
        self._warm_up = Phase(make(replace(method, student_steps=0)), captured) if self._share else None

    def warm_up_iterations(self, planned: int | None) -> int:
        """Of a run of ``planned`` iterations; without a plan there is no warm-up."""
        return math.ceil(self._share * planned) if planned else 0

    def iterations_for(self, batches: float) -> int:
        """Of a run that generates about so many batches, at least 1."""
        each: float = self._whole.iteration.generated_batches
        if self._warm_up is not None:
            each -= self._share * (each - self._warm_up.iteration.generated_batches)
        return max(1, round(batches / each))

    def at(self, iteration: int, warm_up_iterations: int) -> Phase:
        """The phase of iteration ``iteration``, counted from 0."""
        if self._warm_up is not None and iteration < warm_up_iterations:
            return self._warm_up
        return self._whole

    def forget(self) -> None:
        for phase in (self._whole, self._warm_up):
            if phase:
                phase.forget()
