"""The position of a run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class TrainState:
    """The position of a run, beside its weights, optimizers and random numbers.

    Learning rates and weights decay over ``planned_iterations``; None without a plan. The first step fixes
    ``warm_up_iterations``. ``generated_images`` counts images made for steps, the passes count images that went through
    a network in steps, and ``queries`` counts images sent to a black-box teacher. ``seconds`` is the time of steps and
    records. ``best_accuracy`` is the highest so far on test images.
    """

    iteration: int = 0
    planned_iterations: int | None = None
    warm_up_iterations: int | None = None
    generated_images: int = 0
    teacher_passes: int = 0
    student_passes: int = 0
    queries: int = 0
    seconds: float = 0.0
    best_accuracy: float | None = None

    @property
    def progress(self) -> float:
        """The completed fraction of the plan, at most 1; 0 without a plan."""
        return min(1.0, self.iteration / self.planned_iterations) if self.planned_iterations else 0.0
