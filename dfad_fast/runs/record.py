"""Reads a run's folder: everything it records, what a finished run must have, and the last saved state."""

from __future__ import annotations

import contextlib
import json
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from dfad_fast.errors import DFADFastWarning, UsageError, in_one_line
from dfad_fast.runs import checkpoints, layout, metrics_file, sheet_file
from dfad_fast.runs.config_file import read_settings
from dfad_fast.runs.sheet_file import Sheet
from dfad_fast.runs.summary import Summary


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on the disk."""

    name: str
    iteration: int | None
    """None if it cannot be read."""
    planned_iterations: int | None
    size: int
    written: datetime


@dataclass(frozen=True)
class Record:
    """A run's files as plain values. Missing ones are None or empty, and named in ``missing``."""

    folder: Path
    config: dict[str, Any]
    config_text: str
    summary: Summary | None
    history: list[dict[str, Any]]
    """The finite numbers of each record of the metrics, by name."""
    sheets: list[Sheet]
    samples: bytes | None
    """The picture that older runs have instead of sheets."""
    curves: bytes | None
    """The picture that a run without metrics may have."""
    inspection: dict[str, Any]
    checkpoints: list[Checkpoint]
    """Newest first."""
    traceback: str
    missing: list[str]

    @property
    def iteration(self) -> int | None:
        """The last iteration with a record."""
        known = [record["iteration"] for record in self.history[-1:]]
        if self.summary:
            known.append(self.summary.iterations)
        return max((value for value in known if isinstance(value, int)), default=None)

    @property
    def planned_iterations(self) -> int | None:
        """The run's length, None if the record does not say it."""
        told = self.config.get("distill")
        known = [
            *(checkpoint.planned_iterations for checkpoint in self.checkpoints),
            self.summary.planned_iterations if self.summary else None,
            told.get("iterations") if isinstance(told, dict) else None,
        ]
        return next((value for value in known if isinstance(value, int)), None)

    @property
    def summary_is_old(self) -> bool:
        """Whether the run continued after its summary without a recorded end."""
        return self.summary is not None and self.iteration != self.summary.iterations


def read(folder: Path) -> Record:
    """Reads all existing files. Raises UsageError for a folder without settings, metrics and summary of a run."""
    if not any((folder / name).is_file() for name in _TELLING):
        raise UsageError(f"{folder} holds no run ({', '.join(_TELLING)}): give a folder of dfad-fast distill")
    missing: list[str] = []

    def attempt(name: str, read_file: Callable[[Path], Any], otherwise: Any, needed: bool = True) -> Any:
        try:
            return read_file(folder / name)
        except FileNotFoundError:
            if needed:
                missing.append(f"{name} is not there")
        except Exception as error:  # a damaged file may raise anything
            reason = in_one_line(error)
            missing.append(f"{name} cannot be read: {reason}")
        return otherwise

    history = attempt(layout.METRICS, _history, [])
    shown = [
        sheet
        for path in layout.sheets_in(folder)
        if (sheet := attempt(str(path.relative_to(folder)), sheet_file.read, None)) is not None
    ]
    if not shown:
        missing.append(f"{layout.SHEETS}/ holds no images from the run")
    return Record(
        folder=folder,
        config=attempt(layout.CONFIG, read_settings, {}),
        config_text=attempt(layout.CONFIG, _text, "", needed=False),
        summary=attempt(layout.SUMMARY, _summary, None),
        history=history,
        sheets=shown,
        samples=None if shown else attempt(layout.SAMPLES, _picture, None, needed=False),
        curves=None if history else attempt(layout.CURVES, _picture, None, needed=False),
        inspection=attempt(layout.INSPECTION, _mapping, {}, needed=False),
        checkpoints=[
            found for path in layout.checkpoints_in(folder) if (found := _checkpoint(path)) is not None
        ],
        traceback=attempt(layout.TRACEBACK, _text, "", needed=False),
        missing=missing,
    )


@dataclass(frozen=True)
class EndedRun:
    """What every finished or stopped run has; see :class:`Record`."""

    folder: Path
    config: dict[str, Any]
    summary: Summary
    history: list[dict[str, Any]]


def read_ended(folder: Path) -> EndedRun:
    """Reads a finished or stopped run. Raises UsageError if config.yaml or summary.json is missing or damaged."""
    readers: dict[str, Callable[[Path], Any]] = {
        layout.CONFIG: read_settings,
        layout.SUMMARY: _summary,
        layout.METRICS: lambda path: _history(path) if path.is_file() else [],
    }
    found = []
    for name, read_file in readers.items():
        try:
            found.append(read_file(folder / name))
        except OSError as error:
            raise UsageError(
                f"{folder} holds no run that has ended ({error.filename}: {error.strerror}): give folders of "
                "dfad-fast distill"
            ) from error
        except (ValueError, RecursionError) as error:
            raise UsageError(
                f"{folder / name} is damaged ({in_one_line(error)}): leave the run out, or repeat it"
            ) from error
    return EndedRun(folder, *found)


def read_state(folder: Path) -> dict[str, Any] | None:
    """The last intact checkpoint, see :func:`dfad_fast.runs.checkpoints.find`.

    None if there is none, or, with a warning, if the student's weights are newer, for example because the disk was full
    at the end of the run.
    """
    state = checkpoints.read(folder) if layout.checkpoints_in(folder) else None
    if state and state["iteration"] < iteration_of_weights(folder / layout.STUDENT):
        warnings.warn(
            f"the checkpoint in {folder} is older than {layout.STUDENT}, so the weights files are used",
            DFADFastWarning,
            stacklevel=3,
        )
        return None
    return state


def iteration_of_weights(path: Path) -> int:
    """The iteration recorded in a weights file; -1 if the file or its record is missing."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            return int((file.metadata() or {})["iteration"])
    except (OSError, SafetensorError, KeyError, ValueError):
        return -1


_LARGEST_PICTURE = 8 * 2**20  # bytes; older versions drew pictures of any size
_TELLING = (layout.CONFIG, layout.METRICS, layout.SUMMARY)


def _picture(path: Path) -> bytes:
    if path.stat().st_size > _LARGEST_PICTURE:
        raise ValueError(f"more than {_LARGEST_PICTURE // 2**20} MiB")
    return path.read_bytes()


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def _mapping(path: Path) -> dict[str, Any]:
    value = json.loads(_text(path))
    if not isinstance(value, dict):
        raise ValueError(f"expected a mapping, got {type(value).__name__}")
    return value


def _summary(path: Path) -> Summary:
    return Summary.from_data(_mapping(path))


def _history(path: Path) -> list[dict[str, Any]]:
    return [
        {str(name): value for name, value in record.items() if is_number(value)}
        for record in metrics_file.read_records(path)
    ]


def is_number(value: Any) -> bool:
    """Whether ``value`` is a finite number."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and abs(value) <= sys.float_info.max


def _checkpoint(path: Path) -> Checkpoint | None:
    """The checkpoint; None if a running process has removed it meanwhile."""
    try:
        status = path.stat()
        written = datetime.fromtimestamp(status.st_mtime, timezone.utc)
    except (OSError, ValueError, OverflowError):
        return None
    state: dict[str, Any] = {}
    with contextlib.suppress(Exception):  # a damaged file may raise anything
        state = dict(torch.load(path, map_location="cpu", weights_only=True, mmap=True))
    return Checkpoint(
        path.name, state.get("iteration"), state.get("planned_iterations"), status.st_size, written
    )
