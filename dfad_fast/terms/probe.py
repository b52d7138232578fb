"""What a term sees: one batch of images and both networks' answers to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor, nn

from dfad_fast.models.reading.batch_norm import LayerStatistics


@dataclass(frozen=True)
class Probe:
    """One batch seen by both networks.

    ``student_features`` (through their connectors) and ``teacher_features`` are per-stage tensors of equal
    shapes, present only for terms that say ``reads_features``; ``last_stage`` is the teacher's deepest tap, whether or
    not the student has one to match, present only for terms that say ``reads_last_stage``; ``statistics`` are the
    teacher's batch norm layers', present only for terms that say ``reads_statistics``.
    """

    images: Tensor
    """[B, C, H, W], in the teacher's normalized input space."""
    student: Tensor
    """Logits [B, classes]; [0, classes] where no term reads the student."""
    teacher: Tensor
    """Logits [B, classes]; without a graph in the student's phase."""
    ask_teacher: Callable[[Tensor], Tensor]
    """Further images to the teacher, in the same phase's terms of differentiation."""
    student_features: list[Tensor] = field(default_factory=list)
    teacher_features: list[Tensor] = field(default_factory=list)
    last_stage: Tensor | None = None
    statistics: list[LayerStatistics] = field(default_factory=list)
    labels: Tensor | None = None
    """[B], the classes that the images are to be of: what a conditional generator was told, or a source that has
    labels asks for; None of other generators, and in the student's phase."""
    contrast: tuple[Tensor, Tensor] | None = None
    """What crops of images and the whole images are like to the teacher, [N, D] each and of norm 1: those of the batch
    first, then those of former batches. Present only for terms that say ``reads_contrast``."""
    decoded: tuple[Tensor, Tensor] | None = None
    """The noise [B, D] that the images were made of, and what a decoder reads out of them. Present only for terms that
    say ``reads_decoded``."""
    draws: tuple[Tensor, ...] = ()
    """This term's random numbers, see ``Term.draw``."""
    virtual_images: Tensor | None = None
    """What this term's ``virtual_images`` made of the images."""
    virtual_student: Tensor | None = None
    """The student's logits for them."""
    ask_student: Callable[[Tensor, str, Callable[[Tensor], Tensor]], Tensor] | None = None
    """The student's logits for images, where the output of the submodule that is named is changed on its way."""
    module: nn.Module | None = None
    """What this term's ``module`` made."""
    progress: float = 0.0
    """The fraction of the run that is done, for terms that say ``reads_progress``."""
