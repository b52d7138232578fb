"""One iteration: the source's batches, and a student's step on each. Nothing in it waits for the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from dfad_fast.distributed import processes
from dfad_fast.distributed.gradient_averaging import averaging_gradients
from dfad_fast.methods import Method
from dfad_fast.networks.optimizers import ScaledOptimizer
from dfad_fast.networks.probing import Draws, Passes, Prober
from dfad_fast.sources import Batch, Source, Turn
from dfad_fast.sources.source import StepLosses
from dfad_fast.terms import weigh

Weights = Mapping[str, Sequence[float | Tensor]]
"""The factor of each row of an objective, for the keys ``student`` and ``generator``."""


@dataclass(frozen=True)
class Cost:
    """Images that an iteration generated and ran through each network, summed over all processes."""

    generated_images: int
    teacher_passes: int
    student_passes: int


@dataclass(frozen=True)
class Result:
    """The result of an iteration, all of it on the device."""

    losses: list[StepLosses]
    """Each step's unweighted terms."""
    answers: tuple[Tensor, Tensor] | None
    """The student's and the teacher's logits in the student's last step on new images; None if there was none."""
    cost: Cost

    def agreement(self) -> dict[str, float]:
        """Agreement on the last batch that the student learned from; empty if there was none. Waits for the device."""
        if self.answers is None:
            return {}
        student, teacher = self.answers
        return {"agreement_batch": (student.argmax(1) == teacher.argmax(1)).float().mean().item()}


class Iteration:
    """Runs iterations of ``method`` on the batches of ``source``.

    Randomness comes from outside: ``draw`` makes the terms' random numbers on the host, and the source draws noise
    on the device. Everything else runs the same operations on the same shapes each time, as a CUDA graph requires.

    ``batch_size`` counts the whole batch. With several processes, each runs its part of the batch through the networks,
    and gradients are averaged.
    """

    def __init__(
        self, prober: Prober, method: Method, source: Source, optimizer: ScaledOptimizer, batch_size: int
    ) -> None:
        self._prober = prober
        self._method = method
        self._source = source
        self._optimizer = optimizer
        self._batch_size = batch_size
        # A warm-up has no student steps and needs no student loss.
        if method.student_steps:
            self._averaged_loss = averaging_gradients(
                self._student_loss, *prober.trio.read_by(method.student)
            )

    @property
    def generated_images(self) -> int:
        """Images that an iteration usually generates, see :class:`Source`."""
        return self._source.generated_images

    def draw(self, rng: np.random.Generator, progress: float) -> list[list[tuple[np.ndarray, ...]]]:
        """The terms' random numbers for an iteration, per step and per row of its objective.

        The student's steps on new images come first, then the source's own steps, then the student's further ones.
        """
        first = self._draw_student(rng, self._method.student_steps)
        own = self._source.draw(rng, progress)
        return [*first, *own, *self._draw_student(rng, self._source.student_steps - len(first))]

    def _draw_student(self, rng: np.random.Generator, steps: int) -> list[list[tuple[np.ndarray, ...]]]:
        return [[row.term.draw(rng, self._batch_size) for row in self._method.student] for _ in range(steps)]

    def run(self, draws: Sequence[Draws], weights: Weights, progress: float = 0.0) -> Result:
        """One iteration. ``draws`` are the random numbers from ``draw``, as tensors on the device.

        ``progress`` is the completed fraction of the run.
        """
        first = self._method.student_steps
        further = len(draws) - (self._source.student_steps - first)
        of_student = iter([*draws[:first], *draws[further:]])
        turn = Turn(iter(draws[first:further]), weights["generator"], progress)
        answers = None
        before = replace(self._prober.passes)
        with self._prober.stepping():
            for batch in self._source.batches(turn):
                drawn = next(of_student, None)
                if drawn is None:
                    raise ValueError(
                        f"the source yields more batches than its student_steps, {self._source.student_steps}"
                    )
                losses, both = self._student_step(batch, drawn, weights["student"], progress)
                turn.losses.append(losses)
                if len(both[0]) == len(batch.images):  # empty if no term reads the student
                    self._source.learned(batch, both[0])
                if batch.phase == "student":
                    answers = both
        return Result(turn.losses, answers, self._cost(turn, before))

    def _cost(self, turn: Turn, before: Passes) -> Cost:
        now, own = self._prober.passes, processes.count()
        return Cost(
            turn.generated, own * (now.teacher - before.teacher), own * (now.student - before.student)
        )

    def _student_step(
        self, batch: Batch, draws: Draws, weights: Sequence[float | Tensor], progress: float
    ) -> tuple[StepLosses, tuple[Tensor, Tensor]]:
        self._prober.trio.set_modes(student=True)
        total, losses, answers = self._averaged_loss(batch, draws, weights, progress)
        self._optimizer.descend(total)
        return losses, answers

    def _student_loss(
        self, batch: Batch, draws: Draws, weights: Sequence[float | Tensor], progress: float
    ) -> tuple[Tensor, StepLosses, tuple[Tensor, Tensor]]:
        """The weighted sum, each term, and both networks' answers."""
        rows = self._method.student
        probes = self._prober.probe(batch.images, batch.view, rows, draws, progress)
        with self._prober.mixed_precision():
            total, losses = weigh(rows, probes, weights, batch.phase)
        return total, losses, (probes[0].student.detach(), probes[0].teacher)
