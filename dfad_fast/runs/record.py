"""What a run's folder tells of it."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from dfad_fast.errors import UsageError, in_one_line
from dfad_fast.runs import layout, metrics_file, sheet_file
from dfad_fast.runs.config_file import read_settings
from dfad_fast.runs.sheet_file import Sheet


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on the disk."""

    name: str
    iteration: int | None
    """None where it cannot be read."""
    planned_iterations: int | None
    size: int
    written: datetime


@dataclass(frozen=True)
class Record:
    """A run's files as plain values. What is not there is None or empty, and named in ``missing``."""

    folder: Path
    config: dict[str, Any]
    config_text: str
    summary: dict[str, Any]
    history: list[dict[str, Any]]
    sheets: list[Sheet]
    samples: bytes | None
    """The picture that older runs have in place of sheets."""
    curves: bytes | None
    """The picture that a run without metrics may have."""
    inspection: dict[str, Any]
    checkpoints: list[Checkpoint]
    traceback: str
    missing: list[str] = field(default_factory=list)

    @property
    def iteration(self) -> int | None:
        """The last one of which something was recorded."""
        known = [self.summary.get("iterations"), *(record["iteration"] for record in self.history[-1:])]
        return max((value for value in known if isinstance(value, int)), default=None)

    @property
    def planned_iterations(self) -> int | None:
        told = self.config.get("distill")
        known = [
            *(checkpoint.planned_iterations for checkpoint in self.checkpoints),
            self.summary.get("planned_iterations"),
            told.get("iterations") if isinstance(told, dict) else None,
        ]
        return next((value for value in known if isinstance(value, int)), None)

    @property
    def summary_is_old(self) -> bool:
        """Whether the run went on after it, to no recorded end."""
        return bool(self.summary) and self.iteration != self.summary.get("iterations")


def read(folder: Path) -> Record:
    """Raises UsageError for a folder that holds neither settings nor metrics nor a summary of a run."""
    if not any((folder / name).is_file() for name in _TELLING):
        raise UsageError(f"{folder} holds no run ({', '.join(_TELLING)}): give a folder of dfad-fast distill")
    missing: list[str] = []

    def attempt(name: str, read_file: Callable[[Path], Any], otherwise: Any, needed: bool = True) -> Any:
        try:
            return read_file(folder / name)
        except FileNotFoundError:
            if needed:
                missing.append(f"{name} is not there")
        except Exception as error:  # as many kinds as there are ways in which a file is damaged
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
        missing.append(f"{layout.SHEETS}/ holds no images of the run's course")
    return Record(
        folder=folder,
        config=attempt(layout.CONFIG, read_settings, {}),
        config_text=attempt(layout.CONFIG, _text, "", needed=False),
        summary=attempt(layout.SUMMARY, _mapping, {}),
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


_LARGEST_PICTURE = 8 * 2**20  # bytes: older versions drew images of any size
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


def _history(path: Path) -> list[dict[str, Any]]:
    """The finite values of each record."""
    return [
        {str(name): value for name, value in record.items() if is_number(value)}
        for record in metrics_file.read_records(path)
    ]


def is_number(value: Any) -> bool:
    """Whether it is one that is finite."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and abs(value) <= sys.float_info.max


def _checkpoint(path: Path) -> Checkpoint | None:
    """None of one that a run that is going on has put away meanwhile."""
    try:
        status = path.stat()
        written = datetime.fromtimestamp(status.st_mtime, timezone.utc)
    except (OSError, ValueError, OverflowError):
        return None
    state: dict[str, Any] = {}
    with contextlib.suppress(Exception):  # as many kinds as there are ways in which a file is damaged
        state = dict(torch.load(path, map_location="cpu", weights_only=True, mmap=True))
    return Checkpoint(
        path.name, state.get("iteration"), state.get("planned_iterations"), status.st_size, written
    )
