"""The form of a source at work: what hands out the batches that the student learns from."""

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
    """Images [B, C, H, W] and what the teacher says to them, for one of the student's steps.

    ``phase`` is what the step's losses are recorded under.
    """

    images: Tensor
    view: TeacherView
    phase: str = "student"


@dataclass(frozen=True)
class Plan:
    """What an iteration is to do, as the method says.

    ``student`` and ``generator`` are the rows of both objectives, ``student_steps`` and ``generator_steps`` how often
    each is minimized in an iteration. ``trains_student_norms``: whether the student's batch norm layers are in train
    mode in the generator's steps. ``batches`` is how many batches of their own the student's steps share, None one for
    each; ``together`` whether the generator makes all of them in one pass.
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
    """What a source works with: the networks, the optimizer of the generator, noise, and what images are like.

    ``noise(own, whole)`` draws for ``own`` of this process's images on the device, in batches of ``whole`` images of
    all processes. ``batch_size`` is the whole batch's and ``own_batch_size`` this process's part of it: a mixture
    changes both between iterations, so a source reads them anew in each. ``storage`` takes what is too much for memory.
    """

    prober: Prober
    optimizer: ScaledOptimizer | None
    """None where nothing is trained any more."""
    noise: Callable[[int, int], Tensor]
    batch_size: int
    own_batch_size: int
    form: ImageForm
    seed: int
    storage: Storage = field(default_factory=NoStorage)

    @property
    def device(self) -> torch.device:
        """Where the images have to be."""
        return self.prober.device

    def draw_noise(self, batches: int = 1) -> Tensor:
        """Noise for ``batches`` of this process's batches [N, latent_dim]."""
        return self.noise(self.own_batch_size * batches, self.batch_size)

    def see(self, images: Tensor, rows: Sequence[Weighted], phase: str = "student") -> Batch:
        """``images`` with what the teacher says to them for the student's terms ``rows``."""
        return Batch(images, self.prober.look(images, rows, graph=False), phase)


@dataclass
class Turn:
    """One iteration, for a source: the random numbers and weights of its own steps, and where their losses go.

    ``progress`` is the fraction of the run that is done. A source adds the images that it makes to ``generated``, those
    of all processes.
    """

    draws: Iterator[Draws]
    weights: Sequence[float | Tensor]
    progress: float
    losses: list[StepLosses] = field(default_factory=list)
    generated: int = 0


class Source:
    """One place that the student's images come from, at work; a :class:`SourceSpec` declares and makes it.

    An iteration takes all of :meth:`batches`, a batch for each of the student's steps. A source that has steps of its
    own, such as a generator's updates, takes them before the first batch, between two of them or after the last one.
    Where its spec says ``can_be_captured``, what it draws on the host it draws in :meth:`draw`, and it waits for no
    device.
    """

    def __init__(self, bench: Workbench, plan: Plan) -> None:
        self._bench = bench
        self._plan = plan

    @property
    def student_steps(self) -> int:
        """Batches that an iteration hands out."""
        return self._plan.student_steps

    @property
    def own_steps(self) -> int:
        """Steps of its own in an iteration that draw random numbers: the length of :meth:`draw`."""
        return 0

    @property
    def generated_images(self) -> int:
        """Images that an iteration makes as a rule, those of all processes: what a run's length is planned by."""
        raise NotImplementedError

    @property
    def notices(self) -> list[str]:
        """What a user should know of it, a line each."""
        return []

    @property
    def networks(self) -> list[nn.Module]:
        """What it runs beside the three networks of the run."""
        return []

    def draw(self, rng: np.random.Generator, progress: float) -> list[list[tuple[np.ndarray, ...]]]:
        """Random numbers of its own steps in an iteration: for each step, those of each row of its objective."""
        return []

    def batches(self, turn: Turn) -> Iterator[Batch]:
        """The batches of one iteration, in order: as many as the student's steps, or fewer while there is nothing to
        hand out yet."""
        raise NotImplementedError

    def learned(self, batch: Batch, answers: Tensor) -> None:
        """Comes after the student's step on ``batch``, the last one that was handed out, with the student's logits."""

    def held_out(self, count: int, batch_size: int) -> Iterator[Tensor] | None:
        """``count`` images that no step sees, in batches, the same each time; None: the run's generator makes them."""
        return None

    def follow(self, iteration: int) -> None:
        """Comes after iteration ``iteration``, counted from 0."""

    def state_dict(self) -> dict[str, Any]:
        """What it needs to go on bit for bit, but for the run's networks, optimizers and random numbers."""
        return {}

    def state_of_all(self) -> dict[str, Any]:
        """The same of a run over several processes, in the first one with what all have."""
        return self.state_dict()

    def own_part(self, state: dict[str, Any]) -> dict[str, Any]:
        """This process's part of what :meth:`state_of_all` gave."""
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes back to where :meth:`state_dict` was taken, with the same settings."""

    def recall(self, state: dict[str, Any]) -> None:
        """Takes from :meth:`state_dict` of a run that is over what :meth:`held_out` needs."""

    @property
    def unchanging(self) -> list[Tensor]:
        """Tensors of the state that nothing writes to, which a snapshot of it need not copy."""
        return []
