"""The interface of a term, and its row in a method's table."""

from __future__ import annotations

import inspect
import math
import warnings
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

    A subclass sets ``name``, which logs show, and implements ``__call__``. It declares the parts of the probe that it
    needs: ``reads_features``, ``reads_last_stage`` (of the teacher only), ``reads_statistics``, ``reads_attention`` (of
    a vision transformer), ``reads_labels`` (the requested classes), ``reads_contrast`` (from a source that compares its
    images) or ``reads_decoded`` (the noise, and what a source's decoder reads back from the images). The last four are
    for the generator's table. ``reads_student = False`` means that it does not need the student, which does not run if
    no term needs it. A term that needs random numbers or further images for the student
    implements ``draw`` and ``virtual_images``: everything after them is then free of randomness on the host, and all
    images of a step can go through the student at once. A term with its own weights implements ``module``; if they take
    part in making the images, it also implements ``prepare``.

    In a run with several processes, each calls the term on its part of the batch and the values are averaged, which is
    right for a mean over images. Any other term gets the other parts from dfad_fast.distributed.differentiable.
    """

    name: ClassVar[str]
    reads_student: ClassVar[bool] = True
    reads_features: ClassVar[bool] = False
    reads_last_stage: ClassVar[bool] = False
    reads_statistics: ClassVar[bool] = False
    reads_attention: ClassVar[bool] = False
    reads_labels: ClassVar[bool] = False
    reads_contrast: ClassVar[bool] = False
    reads_decoded: ClassVar[bool] = False

    def __repr__(self) -> str:
        """The text in a run's records: the same in every process."""
        return f"{type(self).__name__}()"

    def draw(self, rng: np.random.Generator, batch: int) -> tuple[np.ndarray, ...]:
        """The random numbers of one step, from the run's own generator, which is on the CPU for every backend.

        ``batch`` is the number of images in the whole batch; with several processes each draws the same numbers.
        """
        return ()

    def prepare(
        self, images: Tensor, draws: tuple[Tensor, ...], module: nn.Module | None
    ) -> tuple[Tensor, ...]:
        """The ``draws`` of ``virtual_images`` and of the probe: the random numbers, or what ``module`` makes of them.

        ``images`` are this process's part of the batch, ``module`` is what this term's ``module`` returned. Gradients
        flow through the result to the module.
        """
        return draws

    def virtual_images(self, images: Tensor, draws: tuple[Tensor, ...]) -> Tensor | None:
        """Further images for the student, made from a batch [B, C, H, W] and from what ``prepare`` returned."""
        return None

    @property
    def asks_teacher(self) -> bool:
        """Whether ``__call__`` runs the teacher on further images."""
        return False

    @property
    def reads_progress(self) -> bool:
        """Whether ``__call__`` depends on the run's progress; a CUDA graph cannot capture such an iteration."""
        return False

    def module(self, stages: Sequence[Sequence[int]], image_shape: tuple[int, int, int]) -> nn.Module | None:
        """This term's own weights, trained beside the student, or None if it has none.

        ``stages`` are the shapes of the features, [C, H, W] or [C] each, and ``image_shape`` is that of an image.
        """
        return None

    @property
    def module_lr(self) -> float | None:
        """The rate of an Adam optimizer of its own for ``module``, constant over the run.

        None leaves the module to the student's optimizer. A term with a rate is for the student's table only.
        """
        return None

    @property
    def student_stage(self) -> str | None:
        """The student's submodule whose output the term changes, see ``Probe.ask_student``."""
        return None

    def check(self, stages: Sequence[Sequence[int]]) -> None:
        """Raises UsageError if the features to be compared, [C, H, W] or [C] each, do not suit this term."""

    @property
    def gives_images_apart(self) -> bool:
        """Whether the term implements :meth:`of_each_image`, for sources that need a black box's loss per image."""
        return False

    def of_each_image(self, probe: Probe) -> Tensor:
        """The term's value for each image [B]; ``__call__`` returns their mean."""
        raise NotImplementedError(f"{type(self).__name__} has no values for single images")

    def __call__(self, probe: Probe) -> Tensor:
        """The term's value for one batch: a scalar, through which gradients reach what this phase trains."""
        raise NotImplementedError(f"{type(self).__name__} must implement __call__(probe)")


def check_stage(term: Term, stage: int, stages: Sequence[Sequence[int]]) -> None:
    """Raises UsageError unless ``stage`` is an index into ``stages``, which ``term`` compares; -1 is the last."""
    if not -len(stages) <= stage < len(stages):
        raise UsageError(
            f"{term.name}: {len(stages)} stages of the networks match, but there is no stage {stage}"
        )


@dataclass(frozen=True)
class Weighted:
    """A row of a method's table: ``weight * term``, with the weight's schedule ``decay`` over the run.

    ``early`` is the full weight for the first half and 0 afterwards, ``warmup`` the full weight for the first tenth and
    0 afterwards, and ``after_warmup`` 0 for the first tenth and the full weight afterwards.

    Raises UsageError if the weight, or a number in the term, is a tensor that requires a gradient: nothing would train
    it.
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
        """The weight at the fraction ``progress`` (0 to 1) of the run."""
        return self.weight * DECAYS[self.decay](progress)


def reads_contrast(rows: Sequence[Weighted]) -> bool:
    """Whether a term needs the teacher's descriptions of crops and of whole images."""
    return any(row.term.reads_contrast for row in rows)


def reads_student(rows: Sequence[Weighted]) -> bool:
    """Whether a term needs the student's answers; without one, the student does not run."""
    return any(row.term.reads_student for row in rows)


def reads_features(rows: Sequence[Weighted]) -> bool:
    """Whether a term compares features of both networks."""
    return any(row.term.reads_features for row in rows)


def reads_last_stage(rows: Sequence[Weighted]) -> bool:
    """Whether a term needs the teacher's deepest features."""
    return any(row.term.reads_last_stage for row in rows)


def reads_statistics(rows: Sequence[Weighted]) -> bool:
    """Whether a term needs the statistics of the teacher's batch norm layers."""
    return any(row.term.reads_statistics for row in rows)


def reads_attention(rows: Sequence[Weighted]) -> bool:
    """Whether a term needs what the teacher's attention modules return."""
    return any(row.term.reads_attention for row in rows)


def create_module(
    term: Term, stages: Sequence[Sequence[int]], image_shape: tuple[int, int, int]
) -> nn.Module | None:
    """What ``term.module`` returns, also for a term from before 0.3, which did not get the image shape."""
    parameters = inspect.signature(term.module).parameters
    needed = [parameter for parameter in parameters.values() if parameter.default is parameter.empty]
    if "image_shape" not in parameters and len(needed) < 2:
        warnings.warn(
            f"{type(term).__name__}.module(self, stages) is deprecated: take module(self, stages, image_shape)",
            FutureWarning,
            stacklevel=2,
        )
        own: Callable[..., nn.Module | None] = term.module
        return own(stages)
    return term.module(stages, image_shape)


def weigh(
    rows: Sequence[Weighted], probes: Sequence[Probe], weights: Sequence[float | Tensor], phase: str
) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted sum of the rows, and each row's unweighted term, named ``phase/term``.

    ``probes`` and ``weights`` belong to ``rows`` one by one. The sum has a graph; the single terms have none. A term
    that occurs again gets its place in the table behind its name, as in ``student/hint_2``.
    """
    total = probes[0].teacher.new_zeros(())
    losses: dict[str, Tensor] = {}
    for row, probe, weight in zip(rows, probes, weights, strict=True):
        loss = row.term(probe)
        total = total + weight * loss
        name = f"{phase}/{row.term.name}"
        losses[f"{name}_{len(losses) + 1}" if name in losses else name] = loss.detach()
    return total, losses
