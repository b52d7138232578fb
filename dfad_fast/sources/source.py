"""The interface of a running source, which supplies the student's batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dfad_fast.networks.optimizers import ScaledOptimizer
from dfad_fast.networks.probing import Draws, Prober, TeacherView
from dfad_fast.sources.form import ImageForm
from dfad_fast.sources.storage import NoStorage, Storage
from dfad_fast.terms import Weighted

StepLosses = dict[str, Tensor]
"""The unweighted terms of a step, on the device."""


@dataclass(frozen=True)
class Batch:
    """Images [B, C, H, W] and the teacher's answers to them, for one of the student's steps.

    ``phase`` is the name under which the step's losses are recorded.
    """

    images: Tensor
    view: TeacherView
    phase: str = "student"


@dataclass(frozen=True)
class Plan:
    """The method's plan for an iteration.

    ``student`` and ``generator`` are the rows of both objectives, ``student_steps`` and ``generator_steps`` the number
    of updates per iteration. ``trains_student_norms``: whether the student's batch norm layers are in train mode in the
    generator's steps. ``batches`` is the number of new batches that the student's steps share, None for one each;
    ``together``: whether the generator makes all of them in one pass.
    """

    student: tuple[Weighted, ...]
    generator: tuple[Weighted, ...]
    student_steps: int
    generator_steps: int
    trains_student_norms: bool
    batches: int | None = None
    together: bool = False


@dataclass
class Workbench:
    """A source's tools: the networks, the generator's optimizer, noise, and the images' form.

    ``noise(own, whole)`` draws on the device for ``own`` images of this process, in batches of ``whole`` images of all
    processes. ``batch_size`` is the whole batch's and ``own_batch_size`` this process's part of it: a mixture changes
    both between iterations, so a source must read them in each. ``storage`` holds data that is too large for memory.
    """

    prober: Prober
    optimizer: ScaledOptimizer | None
    """None after training."""
    noise: Callable[[int, int], Tensor]
    batch_size: int
    own_batch_size: int
    form: ImageForm
    seed: int
    storage: Storage = field(default_factory=NoStorage)

    @property
    def device(self) -> torch.device:
        """The device on which the images must be."""
        return self.prober.device

    def draw_noise(self, batches: int = 1) -> Tensor:
        """Noise for ``batches`` of this process's batches [N, latent_dim]."""
        return self.noise(self.own_batch_size * batches, self.batch_size)

    def see(self, images: Tensor, rows: Sequence[Weighted], phase: str = "student") -> Batch:
        """``images`` with the teacher's answers that the student's terms ``rows`` need."""
        return Batch(images, self.prober.look(images, rows, graph=False), phase)


@dataclass
class Turn:
    """One iteration for a source: the random numbers and weights of its own steps, and a place for their losses.

    ``progress`` is the completed fraction of the run. A source adds the number of images that it makes, in all
    processes, to ``generated``.
    """

    draws: Iterator[Draws]
    weights: Sequence[float | Tensor]
    progress: float
    losses: list[StepLosses] = field(default_factory=list)
    generated: int = 0


class Source:
    """A running source of the student's images; a :class:`SourceSpec` declares and creates it.

    An iteration takes all of :meth:`batches`, one batch for each of the student's steps. A source with its own steps,
    such as a generator's updates, takes them before, between or after the batches. If its spec sets
    ``can_be_captured``, it draws all host random numbers in :meth:`draw` and never synchronizes with a device.
    """

    def __init__(self, bench: Workbench, plan: Plan) -> None:
        self._bench = bench
        self._plan = plan

    @property
    def student_steps(self) -> int:
        """The number of batches in an iteration."""
        return self._plan.student_steps

    @property
    def own_steps(self) -> int:
        """The number of its own steps in an iteration that draw random numbers: the length of :meth:`draw`."""
        return 0

    @property
    def generated_images(self) -> int:
        """The usual number of images that an iteration makes in all processes, from which a run's length is planned.

        It is a batch for each of the student's steps, unless a source says otherwise.
        """
        return self._plan.student_steps * self._bench.batch_size

    @property
    def waiting(self) -> int:
        """How many further iterations make no batch, while a bank fills or a generator is trained first.

        An estimate if a bank keeps the images of another source that waits.
        """
        return 0

    def stop_waiting(self) -> None:
        """Makes batches from the next iteration on, with as little as there is: to time them without the wait."""

    @property
    def notices(self) -> list[str]:
        """Notices for the user, one line each."""
        return []

    @property
    def networks(self) -> list[nn.Module]:
        """The networks that it runs beside the run's three."""
        return []

    def draw(self, rng: np.random.Generator, progress: float) -> list[list[tuple[np.ndarray, ...]]]:
        """The random numbers of its own steps in an iteration: for each step, those of each generator term."""
        rows, size = self._plan.generator, self._bench.batch_size
        return [[row.term.draw(rng, size) for row in rows] for _ in range(self.own_steps)]

    def batches(self, turn: Turn) -> Iterator[Batch]:
        """The batches of one iteration, in order: one per student step, or fewer while there are no images yet."""
        raise NotImplementedError

    def learned(self, batch: Batch, answers: Tensor) -> None:
        """Called after the student's step on ``batch``, the latest one, with the student's logits."""

    @property
    def held_out_limit(self) -> int | None:
        """How many different images :meth:`held_out` has; it repeats them for more. None for any number."""
        return None

    def held_out_count(self, most: int) -> int:
        """How many different held-out images there are, at most ``most``."""
        limit = self.held_out_limit
        return most if limit is None else min(most, limit)

    def held_out(self, count: int, batch_size: int) -> Iterator[Tensor] | None:
        """``count`` images that no step sees, in batches, always the same; None if the run's generator makes them."""
        return None

    def follow(self, iteration: int) -> None:
        """Called after iteration ``iteration``, counted from 0."""

    def state_dict(self) -> dict[str, Any]:
        """Its state for a bit-equal resume, without the run's networks, optimizers and random numbers."""
        return {}

    def state_of_all(self) -> dict[str, Any]:
        """The same for a run with several processes; in the first process, with the state of all."""
        return self.state_dict()

    def own_part(self, state: dict[str, Any]) -> dict[str, Any]:
        """This process's part of the result of :meth:`state_of_all`."""
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores the state of :meth:`state_dict`, with the same settings."""

    def recall(self, state: dict[str, Any]) -> None:
        """Loads what :meth:`held_out` needs from the :meth:`state_dict` of a finished run."""

    @property
    def unchanging(self) -> list[Tensor]:
        """Tensors of the state that nothing writes to, so that a snapshot need not copy them."""
        return []
