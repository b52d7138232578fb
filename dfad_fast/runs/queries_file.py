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
    """Opens the journal around the creation of a run in ``out``.

    A resumed run reads its whole journal first, so that it repeats no query even if it was killed before its first
    checkpoint and restarts. Any other run begins a new journal at the end of the block, with the queries so far.

    Raises UsageError for a file that is not a journal or has another kind of answers, and if another process writes to
    the folder; RunError if the file cannot be written.
    """
    teacher = unwrapped(teacher)
    if not (isinstance(teacher, BlackBoxTeacher) and out) or processes.count() > 1:  # refused elsewhere
        yield
        return
    path = out / QUERIES
    goes_on = resume and path.is_file()
    if goes_on:
        _read(teacher, out)
    else:
        teacher.queries.leave_journal()  # this run may overwrite its file
    yield
    if not goes_on:
        teacher.queries.begin_journal(path)


def _read(teacher: BlackBoxTeacher, out: Path) -> None:
    """Takes the lock first, so that nothing is cut off while another process writes."""
    lock = RunLock(out)
    lock.take()
    try:
        teacher.queries.resume_journal(out / QUERIES)
    finally:
        lock.give_back()
