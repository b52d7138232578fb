"""``summary.json``: what came out of a run."""

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
    """Its own value of that, from 0 to 1."""
    accuracy: float | None = None
    """On test images; None without any, and in files of older versions."""


@dataclass(frozen=True)
class Summary:
    """The fields of summary.json, in its order. Accuracies and agreements are fractions.

    None is what was not measured: on test images, where there are none; on generated ones, where a network failed.
    Fields that came later than others are None, or empty, of older files too.
    """

    method: str
    seed: int
    iterations: int
    planned_iterations: int | None
    """More than ``iterations`` where the run was stopped."""
    teacher_accuracy: float | None
    student_accuracy_final: float | None
    student_accuracy_best: float | None
    """Chosen on the test images."""
    student_accuracy_deviation: float | None
    """Standard deviation over the evaluations in the last third of the run."""
    agreement_final: float | None
    """With the teacher, on test images."""
    averaged_accuracy_final: float | None
    """That of the student's moving average; both are left out of the file where none is kept."""
    averaged_accuracy_best: float | None
    best_student: Best | None
    held_out_images: int | None
    """Generated images that no step was taken on; what is measured on them ends in ``_generated``."""
    discrepancy_generated: float | None
    """Mean L1 distance of the logits."""
    agreement_generated: float | None
    agreement_generated_deviation: float | None
    """As that of the accuracy."""
    sign_agreement_generated: Mapping[str, float]
    """By the teacher's stage."""
    classes: int | None
    """Those that the teacher knows."""
    classes_generated: int | None
    """Those that it sees in the held-out images."""
    effective_classes_generated: float | None
    """So many classes, all equally frequent, have the same entropy."""
    entropy_generated: float | None
    """From 0, one class, to 1, all equally frequent."""
    variety_generated: float | None
    """How different the held-out images are; 0: all alike."""
    student_start: Mapping[str, Any]
    """What the student was begun from, see :class:`dfad_fast.models.starting.record.Start`; empty where it is as it was
    handed in because that was asked for."""
    notices: list[str]
    """What went wrong in the run, and what makes the figures on generated images say little, a line each."""
    teacher_parameters: int | None
    """None of a black box, which shows none."""
    student_parameters: int
    source: str | None
    """Where the student's images came from."""
    data_free: bool | None
    """Whether all of these images were made, and none was somebody's own."""
    generated_images: int
    teacher_passes: int | None
    """Images that the teacher was asked about in steps."""
    student_passes: int | None
    """Images that went through the student in steps."""
    queries: int | None
    """Images that were sent to a black-box teacher; left out of the file of any other."""
    teacher_answers: str | None
    """What it was found to answer: logits, probabilities or labels; likewise."""
    seconds_distill: float
    device: str
    threads: int
    """CPU threads of each process."""
    processes: int | None
    versions: Mapping[str, str]
    """Those of this library, torch and numpy, by name."""

    @property
    def size_ratio(self) -> float | None:
        """The student's parameters, as a part of the teacher's; None where these are not known."""
        return self.student_parameters / self.teacher_parameters if self.teacher_parameters else None

    @property
    def keeps_most_accurate(self) -> bool:
        """Whether the student of ``student_accuracy_best`` is the best one, whose weights are kept."""
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
        """Reads a summary of this version or an older one. Values but tables are taken as they are: those of a
        damaged file may be of any type.

        Raises ValueError where a field is missing that every version has written.
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
