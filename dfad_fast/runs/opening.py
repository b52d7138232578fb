"""Opens a run's folder, for a new run or to resume the run that it holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dfad_fast.distributed import collectives, processes
from dfad_fast.engine.distiller import Distiller
from dfad_fast.environment import versions
from dfad_fast.errors import DFADFastError, UsageError, in_one_line
from dfad_fast.networks.levers import Levers
from dfad_fast.runs import resuming
from dfad_fast.runs.config_file import recorded_config
from dfad_fast.runs.folder import RunFolder, has_saved_nothing
from dfad_fast.runs.writer import RunWriter


def _open_folder(
    out: Path, overwrite: bool, resume: bool, keep_checkpoints: int
) -> tuple[RunFolder | None, bool]:
    """The folder, only in the first process, and whether a run that should be resumed is restarted.

    It is restarted if it ended before its first checkpoint.
    """
    opened: list[RunFolder] = []

    def open_first() -> bool:
        again = resume and has_saved_nothing(out)
        opened.append(
            RunFolder(
                out,
                overwrite=overwrite or again,
                resume=resume and not again,
                keep_checkpoints=keep_checkpoints,
                keep_queries=again,
            )
        )
        return again

    again = collectives.on_first(open_first)
    return (opened[0] if opened else None), again


def _resumed(out: Path | None, resume: bool) -> Path | None:
    """The folder of a run that is resumed; None for one that starts or restarts."""
    if out is None or not resume or collectives.on_first(lambda: has_saved_nothing(out)):
        return None
    return out


def begun_before(out: Path | None, resume: bool, student_init: str) -> bool | None:
    """Whether the resumed run in ``out`` initialized its student from the teacher.

    If ``student_init`` is auto, the run's record says so. None for a run that starts or restarts.

    Raises UsageError for a folder that holds no run.
    """
    if (folder := _resumed(out, resume)) is None:
        return None
    if student_init != "auto":
        return student_init == "teacher"
    return collectives.on_first(lambda: recorded_config(folder).get("student_init") == "teacher")


def measured_before(out: Path | None, resume: bool, speed: str | Levers) -> str | Levers:
    """``speed``; if the run in ``out`` is resumed, with the ``teacher_precision`` that it measured and recorded."""
    if not isinstance(speed, Levers) or speed.teacher_precision != "measured":
        return speed
    if (folder := _resumed(out, resume)) is None:
        return speed
    recorded = collectives.on_first(lambda: recorded_config(folder).get("levers"))
    before = recorded.get("teacher_precision") if isinstance(recorded, dict) else None
    return replace(speed, teacher_precision=before) if before else speed


@dataclass(frozen=True)
class OpenedRun:
    """The writer of a run, its records so far, and notices for the user, one line each."""

    writer: RunWriter
    history: list[dict[str, Any]] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)


def open_run(
    distiller: Distiller,
    out: Path | None,
    keep_checkpoints: int,
    overwrite: bool,
    resume: bool,
    accept_changes: bool,
    config: Mapping[str, Any],
) -> OpenedRun:
    """Starts the run of ``distiller`` in the folder ``out``, or restores ``distiller`` from the run that it holds.

    Raises UsageError if the folder holds another run, or if the run was started with other settings or networks.
    """
    if out is None:
        return OpenedRun(RunWriter(None, None))
    folder, begun_again = _open_folder(out, overwrite, resume, keep_checkpoints)
    writer = RunWriter(out, folder, distiller.storage.saved)
    recorded = {**distiller.describe(), "versions": versions()}
    if resume and not begun_again:
        opened = _resume(writer, distiller, recorded, accept_changes)
    else:
        writer.on_folder(lambda folder: folder.write_config({**config, **recorded}))
        again = f"{out} holds no checkpoint yet: the run is restarted"
        opened = OpenedRun(writer, notices=[again] if begun_again else [])
    writer.on_folder(RunFolder.end_writing)
    return opened


def _resume(
    writer: RunWriter, distiller: Distiller, config: Mapping[str, Any], accept_changes: bool
) -> OpenedRun:
    """Resumes from the last checkpoint, which the first process reads for all."""

    def read() -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        folder = writer.folder
        assert folder is not None
        return (
            resuming.changes(folder, config, accept_changes),
            folder.read_config(),
            folder.read_checkpoint(),
        )

    changes, before, state = collectives.on_first(read)
    _load(distiller, state, writer.out)
    iteration = distiller.state.iteration
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
            f"the run has had {' and '.join(map(str, counts))} processes: its result is not bit-equal to that of a run "
            "without this change"
        )
    return OpenedRun(writer, history, notices)


def _load(distiller: Distiller, state: dict[str, Any], out: Path | None) -> None:
    try:
        distiller.load_state_dict(distiller.own_part(state))
    except DFADFastError:  # already says what is wrong, such as a missing file of a bank
        raise
    except (RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
        reason = in_one_line(error)
        raise UsageError(
            f"the checkpoint in {out} does not fit these networks, terms and this device ({reason}): resume with what "
            "the run was started with, or start over with dfad-fast distill"
        ) from error
