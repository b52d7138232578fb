"""``summary.json``: the results of a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dfad_fast.engine.best import BY_ACCURACY
from dfad_fast.runs.layout import SUMMARY


@dataclass(frozen=True)
class Best:
    """The best student at an evaluation of the run."""

    iteration: int
    by: str
    """What was compared."""
    value: float
    """The student's value of that, from 0 to 1."""
    accuracy: float | None = None
    """On test images; None without any, and in files from older versions."""


@dataclass(frozen=True)
class Summary:
    """The fields of summary.json, in its order. Accuracies and agreements are fractions.

    None means not measured: on test images if there are none, on generated ones if a network failed. Fields that were
    added later are None or empty for older files.
    """

    method: str
    seed: int
    iterations: int
    planned_iterations: int | None
    """More than ``iterations`` if the run was stopped."""
    teacher_accuracy: float | None
    student_accuracy_final: float | None
    student_accuracy_best: float | None
    """Chosen on the test images."""
    student_accuracy_deviation: float | None
    """Standard deviation over the evaluations in the last third of the run."""
    agreement_final: float | None
    """With the teacher, on test images."""
    averaged_accuracy_final: float | None
    """Accuracy of the student's moving average; both are left out of the file if none is kept."""
    averaged_accuracy_best: float | None
    best_student: Best | None
    held_out_images: int | None
    """Generated images that no step trained on; the fields measured on them end in ``_generated``."""
    discrepancy_generated: float | None
    """Mean L1 distance of the logits."""
    agreement_generated: float | None
    agreement_generated_deviation: float | None
    """As for the accuracy."""
    sign_agreement_generated: Mapping[str, float]
    """By the teacher's stage."""
    classes: int | None
    """Number of classes that the teacher knows."""
    classes_generated: int | None
    """Number of classes that the teacher sees in the held-out images."""
    effective_classes_generated: float | None
    """Number of equally frequent classes that would have the same entropy."""
    entropy_generated: float | None
    """From 0, one class, to 1, all equally frequent."""
    variety_generated: float | None
    """How different the held-out images are; 0 if all are identical."""
    student_start: Mapping[str, Any]
    """What the student was initialized from, see :class:`dfad_fast.models.starting.record.Start`; empty with
    ``student_init`` random."""
    notices: list[str]
    """What went wrong in the run, and why figures on generated images say little, one line each."""
    teacher_parameters: int | None
    """None for a black box, which shows none."""
    student_parameters: int
    source: str | None
    """Where the student's images came from."""
    data_free: bool | None
    """Whether all of these images were synthetic, and none was given by the user."""
    generated_images: int
    teacher_passes: int | None
    """Images that went through the teacher in steps."""
    student_passes: int | None
    """Images that went through the student in steps."""
    queries: int | None
    """Images sent to a black-box teacher; left out of the file for any other."""
    teacher_answers: str | None
    """What a black-box teacher returned: logits, probabilities or labels; left out of the file for any other."""
    seconds_distill: float
    device: str
    threads: int
    """CPU threads of each process."""
    processes: int | None
    versions: Mapping[str, str]
    """Versions of this library, Python, torch and numpy, by name."""

    @property
    def size_ratio(self) -> float | None:
        """The student's number of parameters divided by the teacher's; None if the latter is unknown."""
        return self.student_parameters / self.teacher_parameters if self.teacher_parameters else None

    @property
    def keeps_most_accurate(self) -> bool:
        """Whether the best student, whose weights are kept, is that of ``student_accuracy_best``."""
        return self.best_student is None or self.best_student.by == BY_ACCURACY

    def as_data(self) -> dict[str, Any]:
        """What summary.json holds, as plain values."""
        data = dataclasses.asdict(self)
        for name in (*_IF_AVERAGED, *_IF_BLACK_BOX):
            if data[name] is None:
                del data[name]
        return data

    @staticmethod
    def from_data(data: Mapping[str, Any]) -> Summary:
        """Reads a summary from this version or an older one.

        Checks only the types of tables: other values from a damaged file may be of any type.

        Raises ValueError if a field is missing that every version writes.
        """
        names = [field.name for field in dataclasses.fields(Summary)]
        missing = [name for name in names if name not in data and name not in _ADDED_LATER]
        if missing:
            raise ValueError(f"{SUMMARY} lacks {', '.join(missing)}")
        values: dict[str, Any] = {name: data.get(name) for name in names}
        values["best_student"] = _best(values["best_student"])
        for name in ("sign_agreement_generated", "student_start"):
            values[name] = values[name] if isinstance(values[name], Mapping) else {}
        values["notices"] = values["notices"] or []
        return Summary(**values)


def _best(data: Any) -> Best | None:
    if not isinstance(data, Mapping) or not data.keys() >= {"iteration", "by", "value"}:
        return None
    return Best(data["iteration"], data["by"], data["value"], data.get("accuracy"))


_IF_AVERAGED = ("averaged_accuracy_final", "averaged_accuracy_best")
_IF_BLACK_BOX = ("queries", "teacher_answers")
_ADDED_LATER = (
    *_IF_AVERAGED,
    *_IF_BLACK_BOX,
    "best_student",
    "held_out_images",
    "classes",
    "student_accuracy_deviation",
    "agreement_generated_deviation",
    "classes_generated",
    "effective_classes_generated",
    "entropy_generated",
    "variety_generated",
    "student_start",
    "notices",
    "processes",
    "source",
    "data_free",
    "teacher_passes",
    "student_passes",
)
