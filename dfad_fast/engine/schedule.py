"""When a run does which iteration: first the generator's warm-up, if the method has one, then whole iterations."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

from dfad_fast.engine.graph import CapturedIteration
from dfad_fast.engine.iteration import Iteration, Result
from dfad_fast.errors import UsageError
from dfad_fast.networks.optimizers import ScaledOptimizer


class Schedule:
    """``whole`` iterations, after ``warm_up`` ones for the fraction ``share`` of the run.

    ``captured`` is the source of noise for CUDA graphs; if given, iterations run as graphs. ``optimizers`` are those of
    both networks.
    """

    def __init__(
        self,
        whole: Iteration,
        warm_up: Iteration | None,
        share: float,
        captured: torch.Generator | None,
        optimizers: Sequence[ScaledOptimizer],
    ) -> None:
        self._share = share
        self._whole = whole
        self._warm_up = warm_up
        self._graphs: dict[Iteration, CapturedIteration] = {}
        if captured is not None:
            for iteration in filter(None, (whole, warm_up)):
                self._graphs[iteration] = CapturedIteration(iteration, captured, optimizers)

    @property
    def whole(self) -> Iteration:
        """What runs after the warm-up."""
        return self._whole

    def warm_up_iterations(self, planned: int | None) -> int:
        """The warm-up iterations in a run of ``planned`` iterations; 0 without a plan."""
        return math.ceil(self._share * planned) if planned else 0

    def iterations_for(self, images: int) -> int:
        """Iterations of a run that generates about ``images`` images, at least 1.

        Raises UsageError if iterations generate none.
        """
        each: float = self._whole.generated_images
        if self._warm_up is not None:
            each -= self._share * (each - self._warm_up.generated_images)
        if not each:
            raise UsageError(
                "this source generates no images in an iteration, so a run has no length in images: give iterations"
            )
        return max(1, round(images / each))

    def at(self, iteration: int, warm_up_iterations: int) -> Iteration:
        """What runs as iteration ``iteration``, counted from 0."""
        if self._warm_up is not None and iteration < warm_up_iterations:
            return self._warm_up
        return self._whole

    def runner(self, iteration: Iteration) -> Callable[..., Result]:
        """Runs it as it is, or as its graph."""
        return self._graphs[iteration].run if self._graphs else iteration.run

    def forget(self) -> None:
        """Discards all captures, see :meth:`CapturedIteration.forget`."""
        for graph in self._graphs.values():
            graph.forget()
