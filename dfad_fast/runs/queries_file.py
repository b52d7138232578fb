"""The journal of a black-box teacher in a run's folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import nn

from dfad_fast.models.black_box import BlackBoxTeacher
from dfad_fast.runs.layout import QUERIES


@contextmanager
def queries_noted(teacher: nn.Module, out: Path | None, resume: bool) -> Iterator[None]:
    """Around the making of a run in ``out``. One that is resumed goes on with its journal from the beginning: if it was
    killed before its first checkpoint, and is begun again, it asks nothing again either. Any other has a new journal
    after it, in which stands what the teacher was asked before, too.

    Raises UsageError for a file that is no journal, and RunError where it cannot be written.
    """
    if not (isinstance(teacher, BlackBoxTeacher) and out):
        yield
        return
    path = out / QUERIES
    goes_on = resume and path.is_file()
    if goes_on:
        teacher.queries.go_on_with_journal(path)
    yield
    if not goes_on:
        teacher.queries.begin_journal(path)
