"""The folder of a run: all of its results, and exactly how to repeat it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import yaml

from dfad_fast.errors import DFADFastWarning, RunError, UsageError
from dfad_fast.runs import checkpoints, layout, metrics_file, sheet_file
from dfad_fast.runs.config_file import recorded_config
from dfad_fast.runs.lock import RunLock, refuse_held
from dfad_fast.runs.sheet_file import Sheet
from dfad_fast.runs.summary import Summary
from dfad_fast.runs.whole_files import make_folder, write_tensors, write_whole
from dfad_fast.terminal import quoted

_LONGEST_SHOWN = 120


def as_folder(out: str | PathLike[str] | None) -> Path | None:
    """The path of a run's folder, with ``~`` as the home folder, or None for a run without one.

    Raises UsageError for anything else, and for a path that cannot be a folder.
    """
    if out is None:
        return None
    if not isinstance(out, str | PathLike) or not isinstance(os.fspath(out), str):
        raise UsageError(f"out must be the path of a folder, got {out!r}")
    if not os.fspath(out):
        raise UsageError("out is empty: give the path of a folder, such as runs/first")
    path = Path(os.path.expanduser(out))
    try:
        (path / layout.LOCK).lstat()
    except (FileNotFoundError, NotADirectoryError):  # whether it can be created is seen then
        pass
    except (OSError, ValueError) as error:  # too long, with a NUL character, or where this user may not look
        told = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"{_shortened(path)} cannot be a run's folder: {told}: give another") from error
    return path


def _shortened(path: Path) -> str:
    name = ascii(str(path))[1:-1]
    return (
        name
        if len(name) < _LONGEST_SHOWN
        else f"{name[: _LONGEST_SHOWN // 2]}...{name[-_LONGEST_SHOWN // 4 :]}"
    )


def refuse_other_run(path: Path) -> None:
    """Raises UsageError if ``path`` holds the files of a run."""
    held = [name for name in layout.FILES if (path / name).exists()]
    if held:
        raise UsageError(
            f"{path} holds another run ({held[0]}): give another folder, replace it with --overwrite, or resume it "
            f"with dfad-fast resume {quoted(path)} (in Python: overwrite=True or resume=True)"
        )


def has_saved_nothing(path: Path) -> bool:
    """Whether the run in ``path`` ended before its first checkpoint, so that it can only be restarted.

    Raises UsageError if the folder holds no readable settings of a run.
    """
    recorded_config(path)
    return not layout.checkpoints_in(path) and not any(
        (path / name).exists() for name in (layout.STUDENT, layout.SUMMARY)
    )


class LockLost(RunError):
    """The run's folder or its lock was removed, and another run was started there."""


class RunFolder:
    """Reads and writes a run's files. Each is written to a temporary name and renamed, so it is complete or missing.

    It holds the folder's lock while it removes a run, between ``begin_writing`` and ``end_writing``, and while it
    writes weights and checkpoints, see :mod:`dfad_fast.runs.lock`.

    Raises UsageError if the folder holds another run (without ``overwrite`` or ``resume``) or another process writes
    to it, and RunError if it cannot be written. ``keep_queries``: removing a run keeps the journal of its black-box
    teacher.
    """

    def __init__(
        self,
        path: str | Path,
        overwrite: bool = False,
        resume: bool = False,
        keep_checkpoints: int = 2,
        keep_queries: bool = False,
    ) -> None:
        if keep_checkpoints < 1:
            raise UsageError(f"keep_checkpoints must be at least 1, got {keep_checkpoints}")
        self.path = Path(path)
        self._keep = keep_checkpoints
        refuse_held(self.path)
        if not (overwrite or resume):
            refuse_other_run(self.path)
        make_folder(self.path)
        self._refuse_links()
        self._times: list[int | None] = []
        self._is_lost = False
        self.lock = RunLock(self.path)
        self.lock.take()
        try:
            for torn in layout.torn_bank_files_in(self.path):
                torn.unlink(missing_ok=True)
            if overwrite and not resume:
                self._remove_run(keep_queries)
        finally:
            self.lock.give_back()

    def begin_writing(self) -> None:
        """Locks the folder for a ``fit``.

        Raises UsageError if another process or trainer uses the folder, or has used it since ``end_writing``, since
        this one would revert the run to its earlier state.
        """
        make_folder(self.path)
        self.lock.take()
        if self._is_lost or any(
            then != now for then, now in zip(self._times, self._times_now(), strict=False) if now is not None
        ):
            self.lock.give_back()
            raise UsageError(
                f"another trainer or process has written to {self.path} since this trainer was created or its last "
                "fit: create a new one with resume=True, or give another folder"
            )

    def end_writing(self) -> None:
        """Unlocks the folder after a ``fit``, or after the files that are written before the first one."""
        if not self._is_lost:  # otherwise the files belong to another run
            self._times = self._times_now()
        self.lock.give_back()

    def _times_now(self) -> list[int | None]:
        """Modification times of the files that every writer writes; None for a missing file."""
        paths = [self.path / name for name in (layout.CONFIG, layout.CHECKPOINT)]
        return [path.stat().st_mtime_ns if path.is_file() else None for path in paths]

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Holds the lock while essential files are written. Raises LockLost if another run has the folder now."""
        if not self.path.is_dir():
            make_folder(self.path)
            warnings.warn(
                f"{self.path} was removed while the run wrote to it: it was created again, without its old files",
                DFADFastWarning,
                stacklevel=4,
            )
        was_ours = self.lock.is_ours
        try:
            self.lock.take()
        except UsageError as error:
            self._is_lost = True
            raise LockLost(f"{error}; nothing more of this run is written") from error
        try:
            yield
        finally:
            if not was_ours:  # a trainer may save after its fit
                self.lock.give_back()

    def _refuse_links(self) -> None:
        """Refuses subfolders that are links to somewhere else, where nothing may be written or removed."""
        for name in (layout.LOGS, layout.SHEETS, layout.BANK):
            if (self.path / name).is_symlink():
                raise UsageError(
                    f"{self.path / name} is a link to somewhere else: remove it, or give another folder with --out"
                )

    def _remove_run(self, keep_queries: bool) -> None:
        kept = {layout.QUERIES} if keep_queries else set()
        files = [self.path / name for name in layout.FILES if name not in kept]
        further = (layout.checkpoints_in, layout.sheets_in, layout.bank_files_in)
        for file in (*files, *(path for there in further for path in there(self.path))):
            file.unlink(missing_ok=True)
        for name in layout.LOG_FOLDERS:
            folder = self.path / layout.LOGS / name
            if folder.is_dir() and not folder.is_symlink():
                shutil.rmtree(folder, ignore_errors=True)
        for name in (layout.LOGS, layout.SHEETS, layout.BANK):
            with contextlib.suppress(OSError):  # not there, or with files in it that are not ours
                (self.path / name).rmdir()

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Writes config.yaml."""
        self.write_text(layout.CONFIG, yaml.safe_dump(dict(config), sort_keys=False))

    def write_summary(self, summary: Summary) -> None:
        """Writes summary.json."""
        self.write_text(layout.SUMMARY, json.dumps(summary.as_data(), indent=2) + "\n")

    def write_text(self, name: str, text: str) -> None:
        """Writes a text file."""
        self._write(name, lambda p: p.write_text(text))

    def write_weights(
        self, name: str, state: Mapping[str, Any], metadata: Mapping[str, str] | None = None
    ) -> None:
        """Writes a .safetensors file of a module's state."""
        with self._locked():
            write_tensors(self.path / name, state, metadata)

    def write_checkpoint(self, state: Mapping[str, Any]) -> None:
        """Writes the new last checkpoint. Keeps ``keep_checkpoints`` in total."""

        def write(path: Path) -> None:
            checkpoints.save(state, path)
            checkpoints.rotate(self.path, self._keep)  # only after the new one is complete

        with self._locked():
            self._write(layout.CHECKPOINT, write)

    def read_checkpoint(self) -> dict[str, Any]:
        """See :func:`dfad_fast.runs.checkpoints.find`.

        Renames damaged ones, so that they do not replace intact ones.
        """
        found = checkpoints.find(self.path)
        for path in found.damaged:
            path.replace(path.with_name(f"{path.name}.damaged"))
        return found.state

    def read_config(self) -> dict[str, Any]:
        """See :func:`dfad_fast.runs.config_file.recorded_config`."""
        return recorded_config(self.path)

    def write_picture(self, name: str, draw: Callable[[Path], None]) -> None:
        """Lets ``draw`` write the file ``name``."""
        self._write(name, draw)

    def write_sheet(self, sheet: Sheet) -> None:
        """Writes a sheet into ``samples/``."""
        path = layout.sheet_file(self.path, sheet.iteration)
        make_folder(path.parent)
        write_whole(path, lambda p: sheet_file.save(sheet, p))

    def cut_sheets(self, up_to_iteration: int) -> None:
        """Removes the sheets that a killed run wrote after that iteration."""
        for path in layout.sheets_in(self.path):
            if layout.sheet_iteration(path) > up_to_iteration:
                path.unlink()

    def append_metrics(self, record: Mapping[str, Any]) -> None:
        """Appends one line to metrics.jsonl. Only warns if it cannot be written, so that the run continues."""
        metrics_file.append(self.path / layout.METRICS, record)

    def read_metrics(self, up_to_iteration: int) -> list[dict[str, Any]]:
        """The records up to an iteration. Removes later ones, of a run that was killed, from the file."""
        path = self.path / layout.METRICS
        records = metrics_file.read_records(path) if path.is_file() else []
        records = [record for record in records if record["iteration"] <= up_to_iteration]
        self.write_text(layout.METRICS, "".join(map(metrics_file.line, records)))
        return records

    def _write(self, name: str, write: Callable[[Path], Any]) -> None:
        write_whole(self.path / name, write)
