"""The form of a method: two tables of weighted terms and a schedule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dfad_fast.errors import UsageError
from dfad_fast.sources import SourceSpec, as_source
from dfad_fast.terms import Weighted, reads_features, reads_last_stage, reads_statistics

StudentMode = Literal["train", "eval"]


@dataclass(frozen=True)
class Method:
    """One published (or recommended) way to distill without data.

    An iteration is ``student_steps`` updates of the student, minimizing ``student``, and ``generator_steps`` updates of
    the generator on fresh noise, minimizing ``generator``. ``student_mode`` is the mode of the student's batch norm
    layers (and dropout) in the generator's phase.

    What the student's steps see is ``batches``, a source or its text (see ``dfad_fast.sources``): ``fresh``, a batch of
    its own for each step, and then the generator's steps follow (DFAD); ``same_noise``, what the generator makes, after
    its steps, of the noise of the last one of them (ZSKT); ``generators_batch``, the very images of its last step, so
    that a step of both is a joint one (DAFL); or any other.

    For the share ``warm_up`` of a run only the generator is trained. Gradients of more than ``clip_norm`` are scaled
    down to it. ``recipe`` names the published optimizers, where they are known. ``iterations`` is how many a run
    takes that is not told its length, where one is so long that what is usual for the dataset would be too many.
    """

    name: str
    source: str
    student: tuple[Weighted, ...]
    generator: tuple[Weighted, ...]
    student_steps: int = 5
    generator_steps: int = 1
    student_mode: StudentMode = "train"
    batches: str | SourceSpec = "fresh"
    warm_up: float = 0.0
    clip_norm: float | None = None
    recipe: str = "auto"
    iterations: int | None = None

    def __post_init__(self) -> None:
        for part in self.source_spec.walk():
            if part.needs_generator_step and not self.generator_steps:
                raise UsageError(f"method {self.name!r}: its source {part.name} needs a generator's step")
        if min(self.student_steps, self.generator_steps) < 0 or not self.student_steps + self.generator_steps:
            raise UsageError(
                f"method {self.name!r}: steps must be at least 0 and not all 0, got {self.student_steps} of the "
                f"student and {self.generator_steps} of the generator"
            )
        for side, rows, steps in (
            ("student", [row for row in self.student if row.term.reads_student], self.student_steps),
            ("generator", self.generator, self.generator_steps),
        ):
            if steps and rows and not any(row.weight for row in rows):
                names = ", ".join(row.term.name for row in rows)
                raise UsageError(
                    f"method {self.name!r}: every term that would train the {side} ({names}) has weight 0: give one a "
                    "weight"
                )
        if self.warm_up and not self.generator_steps:
            raise UsageError(f"method {self.name!r}: a warm-up needs a generator's step")
        if not 0.0 <= self.warm_up < 1.0:
            raise UsageError(
                f"method {self.name!r}: warm_up must be at least 0 and less than 1, got {self.warm_up}"
            )
        if self.iterations is not None and self.iterations < 1:
            raise UsageError(f"method {self.name!r}: iterations must be at least 1, got {self.iterations}")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise UsageError(f"method {self.name!r}: clip_norm must be > 0, got {self.clip_norm}")

    @property
    def source_spec(self) -> SourceSpec:
        """Where the student's images come from."""
        return as_source(self.batches)

    def describe(self) -> dict[str, list[str]]:
        """Both tables, a line per row."""
        return {
            side: [f"{row.weight:g} * {row.term} ({row.decay})" for row in rows]
            for side, rows in (("student", self.student), ("generator", self.generator))
        }

    @property
    def rows(self) -> tuple[Weighted, ...]:
        """The rows of the phases that have steps."""
        return (*self.student * (self.student_steps > 0), *self.generator * (self.generator_steps > 0))

    @property
    def reads_features(self) -> bool:
        return reads_features((*self.student, *self.generator))

    @property
    def reads_last_stage(self) -> bool:
        return reads_last_stage((*self.student, *self.generator))

    @property
    def reads_progress(self) -> bool:
        return any(row.term.reads_progress for row in (*self.student, *self.generator))

    @property
    def reads_statistics(self) -> bool:
        return reads_statistics((*self.student, *self.generator))
