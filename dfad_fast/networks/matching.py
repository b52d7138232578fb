"""Which of the teacher's and the student's stages are compared, and the messages if none match."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import nn

from dfad_fast.errors import UsageError
from dfad_fast.models.black_box import is_black_box
from dfad_fast.models.ensemble import Ensemble, path_of_member
from dfad_fast.models.loading.programs import is_opaque
from dfad_fast.models.reading.check import example_images
from dfad_fast.models.reading.taps import Tap, find_taps, match_taps, named_taps

Names = Sequence[str] | None


class Matching:
    """The stages of both networks, and the matching ``pairs`` (teacher's, student's).

    Raises UsageError for named taps that cannot be matched. Taps found automatically need not match.
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        image_shape: tuple[int, int, int],
        names_teacher: Names = None,
        names_student: Names = None,
    ) -> None:
        self._opaque = [
            what for what, network in (("teacher", teacher), ("student", student)) if is_opaque(network)
        ]
        self._is_black_box = is_black_box(teacher)
        self._teacher_stages = _taps(teacher, image_shape, names_teacher)
        self._student_stages = _taps(student, image_shape, names_student)
        if (names_teacher and is_opaque(teacher)) or (names_student and is_opaque(student)):
            raise UsageError(self.describe_mismatch())
        if names_teacher and names_student and len(names_teacher) != len(names_student):
            raise UsageError(
                f"{len(names_teacher)} taps are named for the teacher and {len(names_student)} for the student: "
                "name the same number for both"
            )
        self.pairs = match_taps(self._teacher_stages, self._student_stages)
        if len(self.pairs) < len(names_teacher or names_student or ()):
            raise UsageError(self.describe_mismatch())

    @property
    def last_stage(self) -> Tap | None:
        """The teacher's deepest tap, with or without a match; None if there is no tap."""
        return self._teacher_stages[-1] if self._teacher_stages else None

    @property
    def teacher_taps(self) -> list[Tap]:
        """The paired taps first, then the deepest tap, which need not have a match."""
        return list(dict.fromkeys([*(t for t, _ in self.pairs), *self._teacher_stages[-1:]]))

    @property
    def student_taps(self) -> list[Tap]:
        """The student's taps, in the order of the pairs."""
        return [s for _, s in self.pairs]

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """The shapes of the compared features, [C, H, W] or [C] each."""
        return [teacher.shape for teacher, _ in self.pairs]

    def describe(self) -> list[dict[str, str | list[int]]]:
        """The tapped stages, one row each."""
        return [
            {
                "teacher": str(t),
                "student": str(s),
                "teacher_shape": list(t.shape),
                "student_shape": list(s.shape),
            }
            for t, s in self.pairs
        ]

    def describe_mismatch(self) -> str:
        """The message for stages that must match and do not."""
        for what in self._opaque:
            if self._is_black_box:
                return (
                    "the teacher is a black box, which gives answers but no features: choose a method or terms "
                    "that read no features, such as dfme or maze"
                )
            return (
                f"the {what} is a program (TorchScript, torch.export, ONNX), whose features cannot be read: choose "
                "a method or terms that read no features, such as dfad, or give the network that it was exported "
                "from"
            )
        return (
            "the teacher's and the student's features do not match: "
            f"teacher {_listing(self._teacher_stages)}; student {_listing(self._student_stages)}: name taps of "
            "equal spatial sizes with --taps-teacher and --taps-student (in Python taps_teacher= and "
            "taps_student=), or choose terms that read no features"
        )

    def describe_poor_match(self) -> str | None:
        """The message if the student matches only the first of several teacher stages."""
        if len(self._teacher_stages) < 2 or [t for t, _ in self.pairs] != self._teacher_stages[:1]:
            return None
        ((teacher, student),) = self.pairs
        return (
            f"features are compared at the first stage only ({teacher} and {student}), which says little: name "
            "taps of equal spatial sizes with --taps-teacher and --taps-student (in Python taps_teacher= and "
            "taps_student=)"
        )


def _taps(network: nn.Module, image_shape: tuple[int, int, int], names: Names) -> list[Tap]:
    """The named taps, or those found automatically; for an ensemble, in its first member."""
    images = example_images(network, image_shape)
    network.eval()
    if is_opaque(network):
        return []
    if names:
        return named_taps(network, images, names)
    if isinstance(network, Ensemble):
        return [
            replace(tap, path=(path_of_member(0) + tap.path).rstrip("."))
            for tap in find_taps(network.members[0], images)
        ]
    return find_taps(network, images)


def _listing(taps: Sequence[Tap]) -> str:
    return ", ".join(f"{tap} {list(tap.shape)}" for tap in taps) or "none"
