"""A method: two tables of weighted terms and a schedule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dfad_fast.errors import UsageError
from dfad_fast.sources import SourceSpec, as_source
from dfad_fast.terms import Weighted, reads_attention, reads_features, reads_last_stage, reads_statistics

StudentMode = Literal["train", "eval"]


@dataclass(frozen=True)
class Method:
    """One published (or recommended) way to distill without data.

    An iteration is ``student_steps`` updates of the student, minimizing ``student``, and ``generator_steps`` updates of
    the generator on fresh noise, minimizing ``generator``. ``student_mode`` is the mode of the student's batch norm
    layers (and dropout) in the generator's phase.

    The student's images come from ``batches``, a source or its text (see ``dfad_fast.sources``). ``fresh``: a new batch
    for each student step, followed by the generator's steps (DFAD). ``same_noise``: the images that the generator
    makes, after its steps, from the noise of its last step (ZSKT). ``generators_batch``: the images of the generator's
    last step, so that both networks step jointly (DAFL). Or any other source.

    For the fraction ``warm_up`` of a run only the generator is trained. Gradients whose norm exceeds ``clip_norm`` are
    scaled down to it. ``recipe`` names the published optimizers, if known. ``iterations`` is the default length of a
    run, for methods whose iterations take so long that the dataset's usual number would be too many.
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
                raise UsageError(
                    f"method {self.name!r}: its source {part.name} needs at least one generator step"
                )
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
            raise UsageError(f"method {self.name!r}: a warm-up needs at least one generator step")
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
        """The source of the student's images."""
        return as_source(self.batches)

    def describe(self) -> dict[str, list[str]]:
        """Both tables, one line per row."""
        return {
            side: [f"{row.weight:g} * {row.term} ({row.decay})" for row in rows]
            for side, rows in (("student", self.student), ("generator", self.generator))
        }

    @property
    def rows(self) -> tuple[Weighted, ...]:
        """The rows of all phases with steps."""
        return (*self.student * (self.student_steps > 0), *self.generator * (self.generator_steps > 0))

    @property
    def reads_features(self) -> bool:
        """Whether a term reads the features of stages."""
        return reads_features((*self.student, *self.generator))

    @property
    def reads_last_stage(self) -> bool:
        """Whether a term reads the teacher's deepest features."""
        return reads_last_stage((*self.student, *self.generator))

    @property
    def reads_progress(self) -> bool:
        """Whether a term reads how much of the run is done."""
        return any(row.term.reads_progress for row in (*self.student, *self.generator))

    @property
    def reads_attention(self) -> bool:
        """Whether a term reads tokens of the teacher's attention modules."""
        return reads_attention((*self.student, *self.generator))

    @property
    def reads_statistics(self) -> bool:
        """Whether a term reads the statistics at the teacher's batch norm layers."""
        return reads_statistics((*self.student, *self.generator))
