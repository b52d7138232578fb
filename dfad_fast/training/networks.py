"""The three networks of a run and what joins them: taps, connectors, and the probes that terms read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from dfad_fast.errors import UsageError
from dfad_fast.models.batch_norm import LayerStatistics, record_statistics
from dfad_fast.models.check import count_classes, example_images, prefer_channels_last
from dfad_fast.models.connectors import create_connector
from dfad_fast.models.folding import Folded, fold_batch_norm
from dfad_fast.models.taps import Tap, Taps, find_taps, match_taps, named_taps
from dfad_fast.terms import Probe, Weighted


class Networks:
    """Teacher, student and generator, checked against each other.

    Raises UsageError where they do not fit: images that a network cannot take, answers that are no logits,
    different numbers of classes, named taps that cannot be matched. Taps that were found may match or not.

    With ``fold_teacher`` a copy of the teacher with its batch norm folded answers in its place, where nobody asks
    for the statistics at those layers; ``folding`` says what came of it. It follows no later change of the teacher.
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        generator: nn.Module,
        image_shape: tuple[int, int, int],
        taps_teacher: Sequence[str] | None,
        taps_student: Sequence[str] | None,
        fold_teacher: bool = False,
    ) -> None:
        self.teacher = teacher
        self.student = student
        self.generator = generator
        _check_placement(teacher, student)
        self.classes = count_classes(teacher, image_shape, "teacher")
        student_classes = count_classes(student, image_shape, "student", modes=(True, False))
        if student_classes != self.classes:
            raise UsageError(
                f"the student answers with {student_classes} classes and the teacher with {self.classes}: "
                f"build the student with {self.classes} classes"
            )
        self._teacher_stages = _taps(teacher, image_shape, taps_teacher)
        self._student_stages = _taps(student, image_shape, taps_student)
        if taps_teacher and taps_student and len(taps_teacher) != len(taps_student):
            raise UsageError(
                f"{len(taps_teacher)} taps are named for the teacher and {len(taps_student)} for the student: "
                "name as many for the one as for the other"
            )
        self.tap_pairs = match_taps(self._teacher_stages, self._student_stages)
        if len(self.tap_pairs) < len(taps_teacher or taps_student or ()):
            raise UsageError(self.describe_mismatch())
        self.connectors = nn.ModuleList(create_connector(s, t) for t, s in self.tap_pairs)
        parameter = next(student.parameters())
        self.connectors.to(parameter.device, parameter.dtype)
        for network in (teacher, student):
            prefer_channels_last(network.eval(), example_images(network, image_shape))
        self.connectors.to(memory_format=torch.channels_last)
        teacher_taps = [t for t, _ in self.tap_pairs]
        self._teacher_taps = Taps(teacher, teacher_taps)
        self._student_taps = Taps(student, [s for _, s in self.tap_pairs])
        self.folding = _fold(teacher, image_shape, teacher_taps) if fold_teacher else None
        self._quick_teacher = self.folding.network if self.folding else teacher
        self._quick_teacher_taps = Taps(self._quick_teacher, teacher_taps)

    def describe_mismatch(self) -> str:
        """What to say where stages that have to match do not."""
        return (
            "the teacher's and the student's features do not match: "
            f"teacher {_listing(self._teacher_stages)}; student {_listing(self._student_stages)}: name taps of "
            "equal spatial sizes with --taps-teacher and --taps-student (in Python taps_teacher= and "
            "taps_student=), or choose a method without the activation regulariser"
        )

    def describe_taps(self) -> list[dict[str, str | list[int]]]:
        """What was tapped, a row per stage."""
        return [
            {
                "teacher": str(t),
                "student": str(s),
                "teacher_shape": list(t.shape),
                "student_shape": list(s.shape),
            }
            for t, s in self.tap_pairs
        ]

    def probe(
        self, images: Tensor, rows: Sequence[Weighted], rng: np.random.Generator, teacher_graph: bool
    ) -> Probe:
        """Shows ``images`` to both networks, with the features and statistics that ``rows`` ask for.

        ``teacher_graph``: whether gradients flow to the images through the teacher, as the generator's phase
        needs them and the student's does not.
        """
        features = any(row.term.reads_features for row in rows)
        statistics = any(row.term.reads_statistics for row in rows)
        network = self.teacher if statistics else self._quick_teacher

        def ask_teacher(x: Tensor) -> Tensor:
            with torch.set_grad_enabled(teacher_graph):
                return network(x)

        teacher, teacher_features, layers = self._look(ask_teacher, images, features, statistics)
        student, student_features = self._look_student(images, features)
        return Probe(
            images=images,
            student=student,
            teacher=teacher,
            ask_student=self.student,
            ask_teacher=ask_teacher,
            rng=rng,
            student_features=student_features,
            teacher_features=teacher_features,
            statistics=layers,
        )

    def _look(
        self, ask: Callable[[Tensor], Tensor], images: Tensor, features: bool, statistics: bool
    ) -> tuple[Tensor, list[Tensor], list[LayerStatistics]]:
        taps = self._teacher_taps if statistics else self._quick_teacher_taps
        with ExitStack() as stack:
            tapped = stack.enter_context(taps.record()) if features else []
            layers = stack.enter_context(record_statistics(self.teacher)) if statistics else []
            return ask(images), tapped, layers

    def _look_student(self, images: Tensor, features: bool) -> tuple[Tensor, list[Tensor]]:
        if not features:
            return self.student(images), []
        with self._student_taps.record() as tapped:
            logits = self.student(images)
        return logits, [connect(x) for connect, x in zip(self.connectors, tapped, strict=True)]


def _taps(network: nn.Module, image_shape: tuple[int, int, int], names: Sequence[str] | None) -> list[Tap]:
    images = example_images(network, image_shape)
    network.eval()
    return named_taps(network, images, names) if names else find_taps(network, images)


def _fold(teacher: nn.Module, image_shape: tuple[int, int, int], taps: Sequence[Tap]) -> Folded:
    zeros = example_images(teacher, image_shape)
    images = torch.randn(4, *image_shape, generator=torch.Generator().manual_seed(0)).to(zeros)
    return fold_batch_norm(teacher, images, watched=[tap.path for tap in taps if tap.call is None])


def _check_placement(teacher: nn.Module, student: nn.Module) -> None:
    first = next(student.parameters(), None)
    if first is None:
        raise UsageError("the student has no parameters, so there is nothing to train: give another network")
    other = next(teacher.parameters(), first)
    if (other.device, other.dtype) != (first.device, first.dtype):
        raise UsageError(
            f"the teacher is {other.dtype} on {other.device} and the student {first.dtype} on {first.device}: "
            "bring both to one device and type with .to()"
        )


def _listing(taps: Sequence[Tap]) -> str:
    return ", ".join(f"{tap} {list(tap.shape)}" for tap in taps) or "none"


@contextmanager
def frozen(*modules: nn.Module) -> Iterator[None]:
    """No gradients for the parameters of ``modules`` inside the block; gradients to their inputs still flow."""
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
