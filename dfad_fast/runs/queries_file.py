"""The journal of a black-box teacher in a run's folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import nn

from dfad_fast.distributed import processes
from dfad_fast.models.black_box import BlackBoxTeacher
from dfad_fast.models.surgery.wrappers import unwrapped
from dfad_fast.runs.layout import QUERIES
from dfad_fast.runs.lock import RunLock


@contextmanager
def queries_noted(teacher: nn.Module, out: Path | None, resume: bool) -> Iterator[None]:
    """Around the making of a run in ``out``. One that is resumed goes on with its journal from the beginning: if it was
    killed before its first checkpoint, and is begun again, it asks nothing again either. Any other has a new journal
    after it, in which stands what the teacher was asked before, too.

    Raises UsageError for a file that is no journal or tells of another kind of answers, and where another process
    writes to the folder; RunError where the file cannot be written.
    """
    teacher = unwrapped(teacher)
    if not (isinstance(teacher, BlackBoxTeacher) and out) or processes.count() > 1:  # which is refused
        yield
        return
    path = out / QUERIES
    goes_on = resume and path.is_file()
    if goes_on:
        _read(teacher, out)
    else:
        teacher.queries.leave_journal()  # whose file this run may write over
    yield
    if not goes_on:
        teacher.queries.begin_journal(path)


def _read(teacher: BlackBoxTeacher, out: Path) -> None:
    """Where another process still writes, nothing is cut off."""
    lock = RunLock(out)
    lock.take()
    try:
        teacher.queries.go_on_with_journal(out / QUERIES)
    finally:
        lock.give_back()
