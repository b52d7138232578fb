"""The form of a term, and its row in a method's table."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from torch import Tensor, nn

from dfad_fast.errors import UsageError
from dfad_fast.terms.probe import Probe

Decay = Literal["constant", "linear", "cosine", "early", "warmup", "after_warmup"]

_WARM_UP = 0.1  # of the run

DECAYS: dict[str, Callable[[float], float]] = {
    "constant": lambda progress: 1.0,
    "linear": lambda progress: 1.0 - progress,
    "cosine": lambda progress: 0.5 * (1.0 + math.cos(math.pi * progress)),
    "early": lambda progress: 1.0 if progress < 0.5 else 0.0,
    "warmup": lambda progress: 1.0 if progress < _WARM_UP else 0.0,
    "after_warmup": lambda progress: 0.0 if progress < _WARM_UP else 1.0,
}


class Term:
    """One term of an objective: reads a Probe, returns a scalar.

    A subclass sets ``name`` (as it stands in logs), says which parts of the probe it needs, with ``reads_features``,
    ``reads_last_stage`` (of the teacher alone), ``reads_statistics``, ``reads_labels`` (of the classes that were asked
    for), ``reads_contrast`` (what a source that compares its images gives) or ``reads_decoded`` (the noise, and what a
    source's decoder reads out of the images), with ``reads_student = False`` that it does without the student (who is
    not asked where no term needs it), and implements ``__call__``. A term that needs random numbers or further images
    for the student implements ``draw`` and ``virtual_images``: what happens between them and ``__call__`` is then free
    of randomness on the host, and all images of a step can go through the student at once. One with weights of its own
    implements ``module``.

    In a run over several processes, each calls the term for its own part of the batch, and the values are averaged:
    right for a mean over images. Any other term gets the others' part from dfad_fast.distributed.differentiable.
    """

    name: ClassVar[str]
    reads_student: ClassVar[bool] = True
    reads_features: ClassVar[bool] = False
    reads_last_stage: ClassVar[bool] = False
    reads_statistics: ClassVar[bool] = False
    reads_labels: ClassVar[bool] = False
    reads_contrast: ClassVar[bool] = False
    reads_decoded: ClassVar[bool] = False

    def __repr__(self) -> str:
        """As it stands in a run's records: the same in every process."""
        return f"{type(self).__name__}()"

    def draw(self, rng: np.random.Generator, batch: int) -> tuple[np.ndarray, ...]:
        """The random numbers of one step, from the run's own source, which lies on the CPU on every backend.

        ``batch`` is the whole batch's number of images; of a run over several processes each draws the same.
        """
        return ()

    def virtual_images(self, images: Tensor, draws: tuple[Tensor, ...]) -> Tensor | None:
        """Further images for the student, made of a batch [B, C, H, W] and this term's ``draws``."""
        return None

    @property
    def asks_teacher(self) -> bool:
        """Whether ``__call__`` asks the teacher about further images."""
        return False

    @property
    def reads_progress(self) -> bool:
        """Whether ``__call__`` computes something else as the run goes on; such an iteration cannot be captured."""
        return False

    def module(self, stages: Sequence[Sequence[int]]) -> nn.Module | None:
        """This term's own weights, trained beside the student, for features [C, H, W] or [C] each."""
        return None

    @property
    def student_stage(self) -> str | None:
        """The student's submodule whose output is changed on its way, see ``Probe.ask_student``."""
        return None

    def check(self, stages: Sequence[Sequence[int]]) -> None:
        """Raises UsageError where the features that will be compared, [C, H, W] or [C] each, are none for this term."""

    @property
    def gives_images_apart(self) -> bool:
        """Whether :meth:`of_each_image` is there, for sources that ask a black box about each image's part of the
        loss."""
        return False

    def of_each_image(self, probe: Probe) -> Tensor:
        """The term of each image [B], whose mean is what ``__call__`` returns."""
        raise NotImplementedError(f"{type(self).__name__} does not tell its images apart")

    def __call__(self, probe: Probe) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} has to implement __call__(probe)")


def check_stage(term: Term, stage: int, stages: Sequence[Sequence[int]]) -> None:
    """Raises UsageError unless ``stage`` is an index of those that ``term`` is to compare, -1 being the last."""
    if not -len(stages) <= stage < len(stages):
        raise UsageError(
            f"{term.name}: {len(stages)} stages of the networks match, there is no stage {stage}"
        )


@dataclass(frozen=True)
class Weighted:
    """A row of a method's table: ``weight * term``, the weight fading to 0 over the run as ``decay`` says.

    ``early`` is the full weight for the first half and none after it, ``warmup`` the same for the first tenth, and
    ``after_warmup`` none for the first tenth and the full weight after it.

    Raises UsageError for a weight, or a number of the term's, that is a tensor with a gradient: nothing would train it.
    """

    weight: float
    term: Term
    decay: Decay = "constant"

    def __post_init__(self) -> None:
        for name, value in [("weight", self.weight), *getattr(self.term, "__dict__", {}).items()]:
            if isinstance(value, Tensor) and value.requires_grad:
                raise UsageError(
                    f"{self.term.name}: {name} requires a gradient, and nothing would train it: pass a number, or make "
                    "it a parameter of the term's module()"
                )

    def weight_at(self, progress: float) -> float:
        """The weight after the fraction ``progress`` (0 to 1) of the run."""
        return self.weight * DECAYS[self.decay](progress)


def reads_contrast(rows: Sequence[Weighted]) -> bool:
    return any(row.term.reads_contrast for row in rows)


def reads_student(rows: Sequence[Weighted]) -> bool:
    return any(row.term.reads_student for row in rows)


def reads_features(rows: Sequence[Weighted]) -> bool:
    return any(row.term.reads_features for row in rows)


def reads_last_stage(rows: Sequence[Weighted]) -> bool:
    return any(row.term.reads_last_stage for row in rows)


def reads_statistics(rows: Sequence[Weighted]) -> bool:
    return any(row.term.reads_statistics for row in rows)


def weigh(
    rows: Sequence[Weighted], probes: Sequence[Probe], weights: Sequence[float | Tensor], phase: str
) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted sum of the rows, and each row's term by itself, named ``phase/term``."""
    total = probes[0].teacher.new_zeros(())
    losses: dict[str, Tensor] = {}
    for row, probe, weight in zip(rows, probes, weights, strict=True):
        loss = row.term(probe)
        total = total + weight * loss
        name = f"{phase}/{row.term.name}"
        losses[f"{name}_{len(losses) + 1}" if name in losses else name] = loss.detach()
    return total, losses
