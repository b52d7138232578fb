"""The input of a term: one batch of images and both networks' answers to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor, nn

from dfad_fast.models.reading.batch_norm import LayerStatistics


@dataclass(frozen=True)
class Probe:
    """One batch seen by both networks.

    ``student_features`` (through their connectors) and ``teacher_features`` are per-stage tensors of equal shapes,
    present only for terms that set ``reads_features``. ``last_stage`` is the teacher's deepest tap, even if the student
    has no match for it, present only for terms that set ``reads_last_stage``. ``statistics`` are those of the teacher's
    batch norm layers, present only for terms that set ``reads_statistics``.
    """

    images: Tensor
    """[B, C, H, W], in the teacher's normalized input space."""
    student: Tensor
    """Logits [B, classes]; [0, classes] if no term reads the student."""
    teacher: Tensor
    """Logits [B, classes]; without a graph in the student's phase."""
    ask_teacher: Callable[[Tensor], Tensor]
    """Runs the teacher on further images, with a graph only if this phase has one."""
    student_features: list[Tensor] = field(default_factory=list)
    teacher_features: list[Tensor] = field(default_factory=list)
    last_stage: Tensor | None = None
    statistics: list[LayerStatistics] = field(default_factory=list)
    attention: list[Tensor] = field(default_factory=list)
    """The tokens [B, C, H, W] that the teacher's attention modules return, one tensor for each, without those that
    stand for no patch. Present only for terms that set ``reads_attention``."""
    labels: Tensor | None = None
    """[B], the requested classes of the images, from a conditional generator's input or a source with labels; None for
    other generators and in the student's phase."""
    contrast: tuple[Tensor, Tensor] | None = None
    """The teacher's descriptions of crops and of whole images, [N, D] each and of norm 1: the batch's first, then those
    of earlier batches. Present only for terms that set ``reads_contrast``."""
    decoded: tuple[Tensor, Tensor] | None = None
    """The noise [B, D] of the images, and what a decoder reads back from the images. Present only for terms that set
    ``reads_decoded``."""
    draws: tuple[Tensor, ...] = ()
    """This term's random numbers, or what its module made of them, see ``Term.draw`` and ``Term.prepare``."""
    virtual_images: Tensor | None = None
    """The result of this term's ``virtual_images``."""
    virtual_student: Tensor | None = None
    """The student's logits for them."""
    ask_student: Callable[[Tensor, str, Callable[[Tensor], Tensor]], Tensor] | None = None
    """The student's logits for images, with the output of the named submodule changed."""
    module: nn.Module | None = None
    """The module that this term's ``module`` returned."""
    progress: float = 0.0
    """The completed fraction of the run, for terms that set ``reads_progress``."""
