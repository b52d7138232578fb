"""A run's folder is opened: for a new run, or to go on with the run that it holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dfad_fast.distributed import collectives, processes
from dfad_fast.runs import resuming
from dfad_fast.runs.folder import RunFolder, has_saved_nothing
from dfad_fast.runs.writer import RunWriter


def open_folder(
    out: Path, overwrite: bool, resume: bool, keep_checkpoints: int
) -> tuple[RunFolder | None, bool]:
    """The folder, in the first process alone, and whether the run in it, which was to be resumed, is begun again: it
    ended before its first checkpoint."""
    opened: list[RunFolder] = []

    def open_first() -> bool:
        again = resume and has_saved_nothing(out)
        opened.append(
            RunFolder(
                out,
                overwrite=overwrite or again,
                resume=resume and not again,
                keep_checkpoints=keep_checkpoints,
            )
        )
        return again

    again = collectives.on_first(open_first)
    return (opened[0] if opened else None), again


@dataclass(frozen=True)
class Resumed:
    """The records of a run so far, and what is to be known of it, a line each."""

    history: list[dict[str, Any]]
    notices: list[str]


def resume_run(
    writer: RunWriter,
    config: Mapping[str, Any],
    accept_changes: bool,
    load: Callable[[dict[str, Any]], int],
) -> Resumed:
    """From the last checkpoint, which the first process reads for all: ``load`` takes it and returns its iteration.

    Raises UsageError where ``config`` is not that of the run and ``accept_changes`` is not set.
    """

    def read() -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        folder = writer.folder
        assert folder is not None
        return (
            resuming.changes(folder, config, accept_changes),
            folder.read_config(),
            folder.read_checkpoint(),
        )

    changes, before, state = collectives.on_first(read)
    iteration = load(state)
    so_far = resuming.processes_so_far(before)
    history = writer.on_folder(lambda folder: folder.read_metrics(iteration)) or []
    writer.on_folder(lambda folder: folder.cut_sheets(iteration))
    if processes.count() != so_far[-1]:
        changes["processes"] = processes.count()
    if changes:
        noted = [*before.get("changes", []), {"at_iteration": iteration, **changes}]
        writer.on_folder(lambda folder: folder.write_config({**before, "changes": noted}))
    counts = sorted({*so_far, processes.count()})
    notices = []
    if len(counts) > 1:
        notices.append(
            f"the run has had {' and '.join(map(str, counts))} processes: it does not end with the "
            "very bits that it would have ended with"
        )
    return Resumed(history, notices)
