"""The form of a source: what hands out the batches that the student learns from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from torch import Tensor, nn

from dfad_fast.networks.optimizers import ScaledOptimizer
from dfad_fast.networks.probing import Draws, Prober, TeacherView
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
    mode in the generator's steps. ``batches`` is how many batches of their own the student's steps share, ``together``
    whether the generator makes all of them in one pass.
    """

    student: tuple[Weighted, ...]
    generator: tuple[Weighted, ...]
    student_steps: int
    generator_steps: int
    trains_student_norms: bool
    batches: int
    together: bool = False


@dataclass(frozen=True)
class Workbench:
    """What a source works with: the networks, the optimizer of the one that it trains, and noise.

    ``noise(count)`` draws for ``count`` of this process's images on the device, ``batch_size`` is the whole batch's and
    ``own_batch_size`` this process's part of it.
    """

    prober: Prober
    optimizer: ScaledOptimizer
    noise: Callable[[int], Tensor]
    batch_size: int
    own_batch_size: int

    def see(self, images: Tensor, rows: Sequence[Weighted], phase: str = "student") -> Batch:
        """``images`` with what the teacher says to them for the student's terms ``rows``."""
        return Batch(images, self.prober.look(images, rows, graph=False), phase)


@dataclass
class Turn:
    """One iteration, for a source: the random numbers and weights of its own steps, and where their losses go.

    ``progress`` is the fraction of the run that is done.
    """

    draws: Iterator[Draws]
    weights: Sequence[float | Tensor]
    progress: float
    losses: list[StepLosses] = field(default_factory=list)


class Source:
    """One place that the student's images come from.

    An iteration takes all of :meth:`batches`, a batch for each of the student's steps. A source that has a step of its
    own, such as a generator's update, takes it before the first batch, between two of them or after the last one. What
    it draws on the host it draws in :meth:`draw`, and it waits for no device: an iteration may be captured as a CUDA
    graph, unless ``can_be_captured`` is False. ``name`` is what a method's ``batches`` calls it; one that wraps another
    source has none.
    """

    name: ClassVar[str] = ""
    can_be_captured: ClassVar[bool] = True
    needs_generator_step: ClassVar[bool] = False
    """Whether it hands out what a generator's step of the same iteration leaves."""
    shares_batches: ClassVar[bool] = False
    """Whether the lever ``student_batches`` may give the student's steps other batches than it hands out."""

    def __init__(self, bench: Workbench, plan: Plan) -> None:
        self._bench = bench
        self._plan = plan

    @property
    def student_steps(self) -> int:
        """Batches that an iteration hands out."""
        return self._plan.student_steps

    @property
    def generated_batches(self) -> int:
        """Batches of images that an iteration generates: what it costs."""
        raise NotImplementedError

    @property
    def networks(self) -> list[nn.Module]:
        """What it runs beside the three networks of the run."""
        return []

    def draw(self, rng: np.random.Generator) -> list[list[tuple[np.ndarray, ...]]]:
        """Random numbers of its own steps in an iteration: for each step, those of each row of its objective."""
        return []

    def batches(self, turn: Turn) -> Iterator[Batch]:
        """The batches of one iteration, in order."""
        raise NotImplementedError

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

    @property
    def unchanging(self) -> list[Tensor]:
        """Tensors of the state that nothing writes to, which a snapshot of it need not copy."""
        return []
