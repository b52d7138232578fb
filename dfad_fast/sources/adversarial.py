"""An adversarial generator, trained to make images on which student and teacher differ.

The published methods differ in the images that the student learns from: one source each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from typing import ClassVar

import torch
from torch import Tensor

from dfad_fast.distributed.gradient_averaging import averaging_gradients
from dfad_fast.networks.probing import Draws
from dfad_fast.sources.generator_step import take_generator_step
from dfad_fast.sources.source import Batch, Plan, Source, StepLosses, Turn, Workbench
from dfad_fast.sources.spec import SourceSpec
from dfad_fast.terms import weigh


class AdversarialGenerator(Source):
    """The run's generator, updated ``plan.generator_steps`` times per iteration, each time on fresh noise."""

    def __init__(self, bench: Workbench, plan: Plan) -> None:
        super().__init__(bench, plan)
        if plan.generator_steps:
            self._averaged_loss = averaging_gradients(self._loss, bench.prober.trio.generator)

    @property
    def own_steps(self) -> int:
        return self._plan.generator_steps

    @property
    def generated_images(self) -> int:
        return self._plan.generator_steps * self._bench.batch_size

    def _sample(self, turn: Turn, batches: int = 1, noise: Tensor | None = None) -> list[Tensor]:
        """Batches of images without a graph, from ``noise`` or from fresh noise."""
        noise = self._bench.draw_noise(batches) if noise is None else noise
        self._bench.prober.trio.set_modes(student=True)
        turn.generated += batches * self._bench.batch_size
        with torch.no_grad():
            return list(self._bench.prober.generate(noise).split(self._bench.own_batch_size))

    def _see(self, images: Tensor) -> Batch:
        return self._bench.see(images, self._plan.student)

    def _update(self, turn: Turn, for_student: bool = False) -> tuple[Tensor, Batch] | None:
        """Takes the generator's steps and returns the noise and batch of the last one; None if the plan has no step.

        With ``for_student``, the batch also holds the teacher's answers that the student's terms need.
        """
        last = None
        for draws in [next(turn.draws) for _ in range(self._plan.generator_steps)]:
            noise = self._bench.draw_noise()
            turn.generated += self._bench.batch_size
            losses, batch = self._step(noise, draws, turn, for_student)
            turn.losses.append(losses)
            last = noise, batch
        return last

    def _step(self, noise: Tensor, draws: Draws, turn: Turn, for_student: bool) -> tuple[StepLosses, Batch]:
        loss = partial(self._averaged_loss, noise, draws, turn.weights, turn.progress, for_student)
        return take_generator_step(self._bench, self._plan, loss)

    def _loss(
        self,
        noise: Tensor,
        draws: Draws,
        weights: Sequence[float | Tensor],
        progress: float,
        for_student: bool,
    ) -> tuple[Tensor, StepLosses, Batch]:
        """The weighted sum, the single terms, and the batch without its graph."""
        prober, rows = self._bench.prober, self._plan.generator
        images = prober.generate(noise)
        view = prober.look(images, (*rows, *self._plan.student) if for_student else rows, graph=True)
        labels = prober.trio.labels_of(noise)
        probes = prober.probe(images, view, rows, draws, progress, labels)
        with prober.mixed_precision():
            total, losses = weigh(rows, probes, weights, "generator")
        return total, losses, Batch(images.detach(), view.detached(prober.asker(graph=False)))


@dataclass(frozen=True)
class Fresh(SourceSpec):
    """New batches for the student's steps, followed by the generator's steps (DFAD, arXiv 1912.11006)."""

    name: ClassVar[str] = "fresh"
    can_be_captured: ClassVar[bool] = True
    trains_generator: ClassVar[bool] = True
    needs_teacher_gradient: ClassVar[bool] = True
    shares_batches: ClassVar[bool] = True

    def make(self, bench: Workbench, plan: Plan) -> Source:
        return FreshSource(bench, plan)


class FreshSource(AdversarialGenerator):
    """If the plan has fewer batches than steps, consecutive student steps share a batch."""

    @property
    def _batches(self) -> int:
        steps, batches = self._plan.student_steps, self._plan.batches
        return steps if batches is None else min(batches, steps)

    @property
    def generated_images(self) -> int:
        return self._batches * self._bench.batch_size + super().generated_images

    def batches(self, turn: Turn) -> Iterator[Batch]:
        """The generator does not change between them."""
        count, steps = self._batches, self._plan.student_steps
        images: list[Tensor] = []
        for step in range(steps):
            if step == 0 or step * count // steps != (step - 1) * count // steps:
                if not images:
                    images = self._sample(turn, count if self._plan.together else 1)
                batch = self._see(images.pop(0))
            yield batch
        self._update(turn)


@dataclass(frozen=True)
class SameNoise(SourceSpec):
    """The images that the generator, after its steps, makes from its last step's noise (ZSKT, arXiv 1905.09768)."""

    name: ClassVar[str] = "same_noise"
    can_be_captured: ClassVar[bool] = True
    trains_generator: ClassVar[bool] = True
    needs_teacher_gradient: ClassVar[bool] = True
    needs_generator_step: ClassVar[bool] = True
    shares_batches: ClassVar[bool] = True

    def make(self, bench: Workbench, plan: Plan) -> Source:
        return SameNoiseSource(bench, plan)


class SameNoiseSource(AdversarialGenerator):
    """All of the student's steps share the batch."""

    @property
    def generated_images(self) -> int:
        return (self._plan.student_steps > 0) * self._bench.batch_size + super().generated_images

    def batches(self, turn: Turn) -> Iterator[Batch]:
        last = self._update(turn)
        if last is not None and self._plan.student_steps:
            noise, _ = last
            yield from repeat(self._see(self._sample(turn, noise=noise)[0]), self._plan.student_steps)


@dataclass(frozen=True)
class GeneratorsBatch(SourceSpec):
    """The images of the generator's last step, so that both networks step jointly (DAFL, arXiv 1904.01186)."""

    name: ClassVar[str] = "generators_batch"
    can_be_captured: ClassVar[bool] = True
    trains_generator: ClassVar[bool] = True
    needs_teacher_gradient: ClassVar[bool] = True
    needs_generator_step: ClassVar[bool] = True
    shares_batches: ClassVar[bool] = True

    def make(self, bench: Workbench, plan: Plan) -> Source:
        return GeneratorsBatchSource(bench, plan)


class GeneratorsBatchSource(AdversarialGenerator):
    """All of the student's steps share the batch."""

    def batches(self, turn: Turn) -> Iterator[Batch]:
        last = self._update(turn, for_student=True)
        if last is not None:
            _, batch = last
            yield from repeat(batch, self._plan.student_steps)
