"""One iteration: the student's steps, then the generator's. Nothing in it waits for the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat

import numpy as np
import torch
from torch import Tensor

from dfad_fast.distributed import collectives, processes
from dfad_fast.distributed.gradient_averaging import averaging_gradients
from dfad_fast.engine.levers import Levers
from dfad_fast.engine.networks import Draws, Networks, TeacherView, frozen
from dfad_fast.engine.optimizers import Optimiser
from dfad_fast.methods import Method
from dfad_fast.sources.replay import Rehearsal
from dfad_fast.terms import Probe, Weighted

Losses = dict[str, Tensor]
Weights = Mapping[str, Sequence[float | Tensor]]
"""What each row of a phase's table is multiplied by, by the phase's name."""


@dataclass(frozen=True)
class Batch:
    """Generated images and what the teacher says to them; used by one or several of the student's steps."""

    images: Tensor
    view: TeacherView


@dataclass(frozen=True)
class Outcome:
    """What an iteration leaves, all of it on the device."""

    losses: list[Losses]
    """Each step's unweighted terms."""
    answers: tuple[Tensor, Tensor] | None
    """The student's and the teacher's logits in the student's last step; None where it took none."""


class Iteration:
    """Runs iterations of ``method`` on ``networks`` with the given levers.

    Randomness comes in from outside: ``draw`` makes the terms' random numbers on the host, and ``noise(count)`` draws
    on the device. Between them the same operations run on the same shapes each time, as a CUDA graph needs it.

    ``batch_size`` is the whole batch's. Of a run over several processes each shows its part of it to the networks, and
    gradients are averaged.
    """

    def __init__(
        self,
        networks: Networks,
        method: Method,
        student_optimiser: Optimiser,
        generator_optimiser: Optimiser,
        levers: Levers,
        batch_size: int,
        noise: Callable[[int], Tensor],
        rehearsal: Rehearsal | None = None,
    ) -> None:
        self._networks = networks
        self._method = method
        self._student_optimiser = student_optimiser
        self._generator_optimiser = generator_optimiser
        self._levers = levers
        self._batch_size = batch_size
        self._own_batch_size = batch_size // processes.count()
        self._noise = noise
        self._progress = 0.0
        self._rehearsal = rehearsal if method.student_steps else None
        wanted = levers.one_student_batch
        self._one_batch = not networks.student_depends_on_batch if wanted is None else wanted
        # A warm-up has no student's step, and other steps than the methods' have no use for a loss.
        if method.student_steps:
            trained = networks.read_by(method.student)
            self._student_loss = averaging_gradients(self._compute_student_loss, *trained)
        if method.generator_steps:
            self._generator_loss = averaging_gradients(self._compute_generator_loss, networks.generator)

    @property
    def generated_batches(self) -> int:
        """Batches of images that an iteration generates."""
        again = self._uses_noise_again and self._method.student_steps > 0
        rehearsed = self._rehearsal.generated_batches if self._rehearsal else 0
        return self._student_batches + self._method.generator_steps + again + rehearsed

    @property
    def _uses_noise_again(self) -> bool:
        """Whether the student sees what the generator makes of its last step's noise once it has taken that step."""
        return self._method.batches == "same noise" and self._levers.student_batches is None

    @property
    def _student_batches(self) -> int:
        """Batches of noise of their own for the student's steps."""
        wanted = self._levers.student_batches
        steps = self._method.student_steps
        if wanted is None:
            return steps if self._method.batches == "fresh" else 0
        # Without a generator's step there is no batch to share.
        return min(wanted if self._method.generator_steps else max(1, wanted), steps)

    def drop_gradients(self) -> None:
        for optimiser in (self._student_optimiser, self._generator_optimiser):
            optimiser.optimizer.zero_grad()

    def draw(self, rng: np.random.Generator) -> list[list[tuple[np.ndarray, ...]]]:
        """The terms' random numbers for an iteration: of each step, student's first and those on old images last, of
        each row of its table."""
        tables = [self._method.student] * self._method.student_steps
        tables += [self._method.generator] * self._method.generator_steps
        if self._rehearsal:
            tables += [self._method.student] * self._rehearsal.steps
        return [[row.term.draw(rng, self._batch_size) for row in rows] for rows in tables]

    def run(self, draws: Sequence[Draws], weights: Weights, progress: float = 0.0) -> Outcome:
        """One iteration, with random numbers as ``draw`` gave them, as tensors on the device.

        ``progress`` is the fraction of the run that is done.
        """
        self._progress = progress
        with self._networks.stepping():
            return self._run(draws, weights)

    def _run(self, draws: Sequence[Draws], weights: Weights) -> Outcome:
        steps = self._method.student_steps
        of_generator = draws[steps : steps + self._method.generator_steps]
        losses: list[Losses] = []
        if self._student_batches:
            batches = self._batches()
        else:
            losses, shared, noise = self._generator_steps(of_generator, weights)
            if self._uses_noise_again and steps:
                shared = self._student_batch(noise)
            batches = repeat(shared)
        answers = None
        for drawn, batch in zip(draws[:steps], batches, strict=False):
            loss, answers = self._student_step(batch, drawn, weights["student"])
            losses.append(loss)
        if self._student_batches and self._method.generator_steps:
            losses += self._generator_steps(of_generator, weights)[0]
        if self._rehearsal:
            self._rehearsal.take(batch.images)
            losses += self._rehearse(self._rehearsal, draws[steps + len(of_generator) :], weights)
        return Outcome(losses, answers)

    def _rehearse(self, rehearsal: Rehearsal, draws: Sequence[Draws], weights: Weights) -> list[Losses]:
        with self._networks.mixed_precision():
            batches = rehearsal.batches(lambda: self._noise(self._own_batch_size))
        return [
            self._student_step(self._seen(images), drawn, weights["student"], "rehearsed")[0]
            for images, drawn in zip(batches, draws, strict=True)
        ]

    def _batches(self) -> Iterator[Batch]:
        """A batch for each of the student's steps. The generator does not change between them."""
        count, steps = self._student_batches, self._method.student_steps
        batches_per_pass = count if self._levers.sample_together else 1
        images: list[Tensor] = []
        for step in range(steps):
            if step == 0 or step * count // steps != (step - 1) * count // steps:
                if not images:
                    images = self._sample(self._noise(self._own_batch_size * batches_per_pass))
                batch = self._seen(images.pop(0))
            yield batch

    def _student_batch(self, noise: Tensor) -> Batch:
        return self._seen(self._sample(noise)[0])

    def _sample(self, noise: Tensor) -> list[Tensor]:
        """Images without a graph, in batches."""
        self._networks.set_modes(student=True)
        with torch.no_grad():
            return list(self._networks.generate(noise).split(self._own_batch_size))

    def _seen(self, images: Tensor) -> Batch:
        return Batch(images, self._networks.look(images, self._method.student, graph=False))

    def _generator_steps(
        self, draws: Sequence[Draws], weights: Weights
    ) -> tuple[list[Losses], Batch, Tensor]:
        """Their losses, and the last one's batch and noise."""
        losses = []
        for drawn in draws:
            noise = self._noise(self._own_batch_size)
            loss, batch = self._generator_step(noise, drawn, weights["generator"])
            losses.append(loss)
        return losses, batch, noise

    def _student_step(
        self, batch: Batch, draws: Draws, weights: Sequence[float | Tensor], name: str = "student"
    ) -> tuple[Losses, tuple[Tensor, Tensor]]:
        self._networks.set_modes(student=True)
        total, losses, answers = self._student_loss(batch, draws, weights, name)
        self._student_optimiser.descend(total)
        return losses, answers

    def _compute_student_loss(
        self, batch: Batch, draws: Draws, weights: Sequence[float | Tensor], name: str
    ) -> tuple[Tensor, Losses, tuple[Tensor, Tensor]]:
        """The weighted sum, each term, and both networks' answers."""
        networks, rows = self._networks, self._method.student
        probes = networks.probe(batch.images, batch.view, rows, draws, self._one_batch, self._progress)
        with networks.mixed_precision():
            total, losses = _weigh(rows, probes, weights, name)
        return total, losses, (probes[0].student.detach(), probes[0].teacher)

    def _generator_step(
        self, noise: Tensor, draws: Draws, weights: Sequence[float | Tensor]
    ) -> tuple[Losses, Batch]:
        """Also returns its batch as the student's steps may read it."""
        networks = self._networks
        train = self._method.student_mode == "train"
        networks.set_modes(student=train)
        if not (train or networks.sync_batch_norm):
            # Each has followed its own part of the batches, and the student is to be the same in all.
            collectives.copy_buffers_from_first(networks.student, *networks.beside_student)
        with frozen(networks.teacher, networks.student, *networks.beside_student):
            total, losses, batch = self._generator_loss(noise, draws, weights)
            # Frozen until backward is over, too: a network that checkpoints its activations runs again in it.
            self._generator_optimiser.descend(total)
        return losses, batch

    def _compute_generator_loss(
        self, noise: Tensor, draws: Draws, weights: Sequence[float | Tensor]
    ) -> tuple[Tensor, Losses, Batch]:
        """The weighted sum, each term, and the batch without its graph."""
        networks, rows = self._networks, self._method.generator
        shared = not self._student_batches and not self._uses_noise_again
        read = (*rows, *self._method.student) if shared else rows
        images = networks.generate(noise)
        view = networks.look(images, read, graph=True)
        labels = networks.labels_of(noise)
        probes = networks.probe(images, view, rows, draws, self._one_batch, self._progress, labels)
        with networks.mixed_precision():
            total, losses = _weigh(rows, probes, weights, "generator")
        return total, losses, Batch(images.detach(), view.detached(networks.asker(graph=False)))


def _weigh(
    rows: Sequence[Weighted], probes: Sequence[Probe], weights: Sequence[float | Tensor], phase: str
) -> tuple[Tensor, Losses]:
    """The weighted sum of the rows, and each row's term by itself."""
    total = probes[0].teacher.new_zeros(())
    losses: Losses = {}
    for row, probe, weight in zip(rows, probes, weights, strict=True):
        loss = row.term(probe)
        total = total + weight * loss
        name = f"{phase}/{row.term.name}"
        losses[f"{name}_{len(losses) + 1}" if name in losses else name] = loss.detach()
    return total, losses
