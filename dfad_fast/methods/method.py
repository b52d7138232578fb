"""The form of a method: two tables of weighted terms and a schedule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dfad_fast.terms import Weighted, reads_features, reads_statistics

StudentMode = Literal["train", "eval"]


@dataclass(frozen=True)
class Method:
    """One published (or recommended) way to distil without data.

    An iteration is ``student_steps`` updates of the student on fresh noise, minimising ``student``, then
    ``generator_steps`` updates of the generator on fresh noise, minimising ``generator``. ``student_mode`` is
    the mode of the student's batch norm layers (and dropout) in the generator's phase.
    """

    name: str
    source: str
    student: tuple[Weighted, ...]
    generator: tuple[Weighted, ...]
    student_steps: int = 5
    generator_steps: int = 1
    student_mode: StudentMode = "train"

    def describe(self) -> dict[str, list[str]]:
        """Both tables, a line per row."""
        return {
            side: [f"{row.weight:g} * {row.term} ({row.decay})" for row in rows]
            for side, rows in (("student", self.student), ("generator", self.generator))
        }

    @property
    def reads_features(self) -> bool:
        return reads_features((*self.student, *self.generator))

    @property
    def reads_statistics(self) -> bool:
        return reads_statistics((*self.student, *self.generator))
