"""The folder of a run: everything that came out, and exactly how to repeat it."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import reprlib
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor

from dfad_fast.errors import ConfigError, DFADFastError, DFADFastWarning, RunError, UsageError
from dfad_fast.terminal import quoted
from dfad_fast.runs import checkpoints
from dfad_fast.reporting import sheets
from dfad_fast.runs.checkpoints import CHECKPOINT
from dfad_fast.runs.run_lock import RunLock, refuse_held

CONFIG = "config.yaml"
METRICS = "metrics.jsonl"
METRICS_TABLE = "metrics.csv"
SUMMARY = "summary.json"
STUDENT = "student.safetensors"
GENERATOR = "generator.safetensors"
AVERAGED = "student_averaged.safetensors"
BEST = "student_best.safetensors"
SAMPLES = "samples.png"
CURVES = "curves.png"
TRACEBACK = "traceback.txt"
REPORT = "report.html"
LOGS = "log"
INSPECTION = "inspect.json"
INSPECTION_PICTURE = "inspect.png"
EXPORT_ENDINGS = {
    "onnx": ".onnx",
    "int8": "_int8.onnx",
    "torch": ".pt2",
    "safetensors": "_export.safetensors",
}
EXPORT_RECORD = ".json"
"""What is measured of an exported file stands in one with this after its name."""
_OURS = (
    *(CONFIG, METRICS, SUMMARY, STUDENT, AVERAGED, BEST, GENERATOR, CHECKPOINT, SAMPLES, CURVES),
    *(TRACEBACK, INSPECTION, INSPECTION_PICTURE, METRICS_TABLE, REPORT),
    *(
        f"{Path(of).stem}{ending}{record}"
        for of in (STUDENT, AVERAGED, BEST)
        for ending in EXPORT_ENDINGS.values()
        for record in ("", EXPORT_RECORD)
    ),
)
_LOG_FOLDERS = ("tensorboard", "wandb", "mlflow")


def folder_of(run: str | Path) -> Path:
    """Of a run that is named by its folder or by a file in it."""
    return Path(run).parent if Path(run).is_file() else Path(run)


def refuse_other_run(path: Path) -> None:
    """Raises UsageError where ``path`` holds the files of a run."""
    held = [name for name in _OURS if (path / name).exists()]
    if held:
        raise UsageError(
            f"{path} holds another run ({held[0]}): give another folder with --out, or --overwrite, "
            f"or go on with it: dfad-fast resume {quoted(path)}"
        )


def has_saved_nothing(path: Path) -> bool:
    """Whether the run in ``path`` ended before its first checkpoint, so that it can only begin again.

    Raises UsageError where no run's settings are there that can be read.
    """
    recorded_config(path)
    return not checkpoints.all_of(path) and not any((path / name).exists() for name in (STUDENT, SUMMARY))


def make_folder(path: Path) -> None:
    """Raises RunError where it cannot be made or written to."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path).close()
    except OSError as error:
        raise RunError(
            f"cannot write to folder {path}: {error.strerror}: give one that can be written to"
        ) from error


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Lets ``write`` write a file beside ``path`` and renames it: ``path`` is whole or as it was before, even after a
    power cut.

    Raises RunError where that cannot be done, such as on a full disk.
    """
    temporary: Path | None = None
    try:
        # With the same suffix, since matplotlib and safetensors look at it.
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        write(temporary)
        temporary.chmod(0o644)
        _flush(temporary)
        temporary.replace(path)
        _flush(path.parent)
    except DFADFastError:
        raise
    except Exception as error:
        if not _is_write_failure(error):
            raise
        free = shutil.disk_usage(path.parent).free if path.parent.is_dir() else 0
        raise RunError(
            f"cannot write {path}: {error} ({free / 2**20:.0f} MiB are free there): make room, or give another folder"
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_tensors(path: Path, state: Mapping[str, Any], metadata: Mapping[str, str] | None = None) -> None:
    """A state dictionary as safetensors."""
    from safetensors.torch import save_file

    write_whole(path, lambda p: save_file(plain_tensors(state), p, dict(metadata or {}) or None))


def plain_tensors(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """A state dictionary as safetensors takes it: on the CPU, contiguous, with no memory shared, as tied weights do.
    A module's extra state is left out."""
    return {
        key: value.detach().cpu().contiguous().clone()
        for key, value in state.items()
        if isinstance(value, Tensor)
    }


def _flush(path: Path) -> None:
    """Onto the disk, where the system lets a file, or a folder with its names, be flushed."""
    handle = None
    try:
        handle = os.open(path, os.O_RDONLY)
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF, errno.EACCES, errno.EPERM):
            raise
    finally:
        if handle is not None:
            os.close(handle)


def read_settings(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. Executes nothing, and reads no aliases: a few lines of them can stand for more than
    memory holds.

    Raises OSError where there is no file, and ValueError for one that holds no mapping.
    """
    held = path.read_bytes()
    try:
        value = yaml.load(held.decode(), _WithoutAliases)
    except Exception as error:  # PyYAML raises many kinds for odd values
        raise ValueError(f"no YAML that can be read ({type(error).__name__})") from error
    if not isinstance(value, dict):
        raise ValueError(f"expected a mapping, got {type(value).__name__}")
    return value


class _WithoutAliases(yaml.SafeLoader):
    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise ValueError("an alias")
        return super().compose_node(parent, index)


def recorded_config(folder: Path) -> dict[str, Any]:
    """All of the run's config.yaml. Raises UsageError where there is none that can be read, or none of a run."""
    try:
        config = read_settings(folder / CONFIG)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{folder} holds no {CONFIG} that can be read: start anew with dfad-fast distill"
        ) from error
    wrong = _first_of_another_kind(config)
    if wrong:
        came = reprlib.repr(config[wrong])
        raise ConfigError(f"{folder / CONFIG}: {wrong} is {came}, which no run has written: correct it")
    return config


def _first_of_another_kind(config: Mapping[str, Any]) -> str | None:
    """The first entry of another kind than was written; job.read_config looks at those of ``dfad-fast distill``."""
    return next((name for name, fits in _KINDS.items() if name in config and not fits(config[name])), None)


def _is_count(value: Any) -> bool:
    return type(value) is int and value > 0


def _are_taps(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(row, dict) and {"teacher", "student"} <= row.keys() for row in value
    )


def _are_changes(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(change, dict) and _first_of_another_kind(change) is None for change in value
    )


_KINDS: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("processes", "threads", "batch_size"), _is_count),
    "levers": lambda value: isinstance(value, dict),
    "taps": _are_taps,
    "changes": _are_changes,
}


def read_records(path: Path) -> list[dict[str, Any]]:
    """Of metrics.jsonl, up to the first line that is none, as the last one of a run that was killed may be."""
    records: list[dict[str, Any]] = []
    for line in path.read_bytes().splitlines():
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            break
        # A truth value is a number to Python, and a number may have more digits than anything counts.
        if not isinstance(record, dict) or not all(
            type(record.get(name)) is int and 0 <= record[name] < 2**63 for name in _POSITION
        ):
            break
        records.append(record)
    return records


_POSITION = ("iteration", "generated_images")


class LockLost(RunError):
    """The folder of a run was removed or its lock was, and another run was begun there."""


class RunFolder:
    """Reads and writes a run's files. Each is written beside its name and renamed, so it is whole or not there.

    It has the folder's lock while it removes a run, between ``begin_writing`` and ``end_writing``, and while it writes
    weights and checkpoints, see :mod:`dfad_fast.runs.run_lock`.

    Raises UsageError where the folder holds another run (unless told to overwrite or to continue it) or another
    process writes to it, and RunError where it cannot be written.
    """

    def __init__(
        self, path: str | Path, overwrite: bool = False, resume: bool = False, keep_checkpoints: int = 2
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
            if overwrite and not resume:
                self._remove_run()
        finally:
            self.lock.give_back()

    def begin_writing(self) -> None:
        """For a ``fit``. Raises UsageError where another process or trainer has the folder, or has had it since
        ``end_writing``, so that this one would take the run back to where it was."""
        make_folder(self.path)
        self.lock.take()
        if self._is_lost or any(
            then != now for then, now in zip(self._times, self._times_now(), strict=False) if now is not None
        ):
            self.lock.give_back()
            raise UsageError(
                f"another trainer or process has written to {self.path} since this trainer was made or its last fit: "
                "make it anew with resume=True, or give another folder"
            )

    def end_writing(self) -> None:
        """For a ``fit``, or for what is written before the first one."""
        if not self._is_lost:  # to another run, whose files are none of ours
            self._times = self._times_now()
        self.lock.give_back()

    def _times_now(self) -> list[int | None]:
        """When what every writer writes was written; None of what is not there."""
        paths = [self.path / name for name in (CONFIG, CHECKPOINT)]
        return [path.stat().st_mtime_ns if path.is_file() else None for path in paths]

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Around what a run cannot do without. Raises LockLost where another run has the folder now."""
        if not self.path.is_dir():
            make_folder(self.path)
            warnings.warn(
                f"{self.path} was removed while the run wrote to it: it is made anew, without what was in it",
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
            if not was_ours:  # of a trainer that is told to save after its fit
                self.lock.give_back()

    def _refuse_links(self) -> None:
        """Folders in it that lead elsewhere, where nothing is to be written or removed."""
        for name in (LOGS, sheets.FOLDER):
            if (self.path / name).is_symlink():
                raise UsageError(
                    f"{self.path / name} is a link to somewhere else: remove it, or give another folder with --out"
                )

    def _remove_run(self) -> None:
        files = [self.path / name for name in _OURS]
        for file in (*files, *checkpoints.all_of(self.path), *sheets.all_of(self.path)):
            file.unlink(missing_ok=True)
        for name in _LOG_FOLDERS:
            folder = self.path / LOGS / name
            if folder.is_dir() and not folder.is_symlink():
                shutil.rmtree(folder, ignore_errors=True)
        for name in (LOGS, sheets.FOLDER):
            with contextlib.suppress(OSError):  # not there, or with files in it that are not ours
                (self.path / name).rmdir()

    def write_config(self, config: Mapping[str, Any]) -> None:
        self.write_text(CONFIG, yaml.safe_dump(dict(config), sort_keys=False))

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        self.write_text(SUMMARY, json.dumps(summary, indent=2) + "\n")

    def write_text(self, name: str, text: str) -> None:
        self._write(name, lambda p: p.write_text(text))

    def write_weights(
        self, name: str, state: Mapping[str, Any], metadata: Mapping[str, str] | None = None
    ) -> None:
        with self._locked():
            write_tensors(self.path / name, state, metadata)

    def write_checkpoint(self, state: Mapping[str, Any]) -> None:
        """The last one from now on; so many of those before it are kept that there are ``keep_checkpoints``."""

        def write(path: Path) -> None:
            checkpoints.save(state, path)
            checkpoints.rotate(self.path, self._keep)  # only once the new one is there

        with self._locked():
            self._write(CHECKPOINT, write)

    def read_checkpoint(self) -> dict[str, Any]:
        """See :func:`dfad_fast.runs.checkpoints.find`. Damaged ones are renamed, so that none takes a whole one's
        place."""
        found = checkpoints.find(self.path)
        for path in found.damaged:
            path.replace(path.with_name(f"{path.name}.damaged"))
        return found.state

    def read_config(self) -> dict[str, Any]:
        """See :func:`recorded_config`."""
        return recorded_config(self.path)

    def write_picture(self, name: str, draw: Callable[[Path], None]) -> None:
        self._write(name, draw)

    def write_sheet(self, sheet: sheets.Sheet) -> None:
        path = sheets.file_of(self.path, sheet.iteration)
        make_folder(path.parent)
        write_whole(path, lambda p: sheets.save(sheet, p))

    def cut_sheets(self, up_to_iteration: int) -> None:
        """Removes what a run that was killed showed after that iteration."""
        for path in sheets.all_of(self.path):
            if sheets.iteration_of(path) > up_to_iteration:
                path.unlink()

    def append_metrics(self, record: Mapping[str, Any]) -> None:
        """One line of metrics.jsonl. A line that cannot be written is no reason to stop a run: warns."""
        path = self.path / METRICS
        whole = None
        try:
            with path.open("ab") as file:
                whole = file.tell()
                file.write((json.dumps(record) + "\n").encode())
        except OSError as error:
            if whole is not None:
                with contextlib.suppress(OSError):
                    os.truncate(path, whole)  # else the next line would be one with the part that fitted
            warnings.warn(
                f"metrics are not being written to {self.path}: {error.strerror}",
                DFADFastWarning,
                stacklevel=2,
            )

    def read_metrics(self, up_to_iteration: int) -> list[dict[str, Any]]:
        """The records up to an iteration; what came after it (a run that was killed) is cut off the file."""
        path = self.path / METRICS
        records = read_records(path) if path.is_file() else []
        records = [record for record in records if record["iteration"] <= up_to_iteration]
        self.write_text(METRICS, "".join(json.dumps(record) + "\n" for record in records))
        return records

    def _write(self, name: str, write: Callable[[Path], Any]) -> None:
        write_whole(self.path / name, write)


def _is_write_failure(error: Exception) -> bool:
    """safetensors reports a full disk with an exception of its own."""
    return isinstance(error, OSError) or type(error).__name__ == "SafetensorError"
