"""The journal of a black-box teacher in a run's folder."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from dfad_fast.models.black_box import BlackBoxTeacher
from dfad_fast.runs.layout import QUERIES


def resume_queries(teacher: nn.Module, out: Path | None, resume: bool) -> bool:
    """Whether the run in ``out`` is resumed and has a journal: the teacher then goes on with it. A run that is begun
    again, since it was killed before its first checkpoint, asks nothing again either.

    Raises UsageError for a file that is no journal.
    """
    if not (isinstance(teacher, BlackBoxTeacher) and out and resume and (out / QUERIES).is_file()):
        return False
    teacher.queries.go_on_with_journal(out / QUERIES)
    return True


def begin_queries(teacher: nn.Module, out: Path | None) -> None:
    """Of a new run: notes in its folder, if it has one, what is asked from now on, and what was asked before.

    Raises RunError where that cannot be written.
    """
    if isinstance(teacher, BlackBoxTeacher) and out:
        teacher.queries.begin_journal(out / QUERIES)
