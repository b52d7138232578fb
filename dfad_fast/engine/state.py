"""How far a run is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class TrainState:
    """The position of a run, beside its weights, optimizers and random numbers.

    ``planned_iterations`` is what learning rates and weights fade over; None where no plan was made.
    ``warm_up_iterations`` is fixed by the first step, ``generated_images`` counts those that were made for steps, and
    passes the images that went through a network in them, ``queries`` those that a black-box teacher was sent,
    ``seconds`` are those of steps and records,
    ``best_accuracy`` is the highest so far on test images.
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
        """The fraction of the plan that is done, at most 1; 0 without a plan."""
        return min(1.0, self.iteration / self.planned_iterations) if self.planned_iterations else 0.0
