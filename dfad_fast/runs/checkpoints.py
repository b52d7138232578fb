"""The last checkpoints of a run, each with a checksum. A damaged one only costs the time since the one before it."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dfad_fast.checksum import checksum
from dfad_fast.errors import DFADFastWarning, UsageError
from dfad_fast.runs.layout import CHECKPOINT, checkpoint_age, checkpoint_name, checkpoints_in

_CHECKSUM = "checksum"


def rotate(folder: Path, keep: int) -> None:
    """Links the last checkpoint under an older name, before a new one replaces it, and keeps ``keep`` in total."""
    last = folder / CHECKPOINT
    if last.is_file() and keep > 1:
        for number in range(keep - 1, 1, -1):
            if (folder / checkpoint_name(number - 1)).is_file():
                (folder / checkpoint_name(number - 1)).replace(folder / checkpoint_name(number))
        _keep_as(last, folder / checkpoint_name(1))
    for path in checkpoints_in(folder):
        if checkpoint_age(path) >= keep:
            path.unlink()


def _keep_as(path: Path, name: Path) -> None:
    """Gives ``path`` a second ``name``. Neither file is missing or incomplete at any moment."""
    temporary = name.with_name(f".{name.name}")
    temporary.unlink(missing_ok=True)
    try:
        os.link(path, temporary)
    except OSError:  # a file system without links
        shutil.copyfile(path, temporary)
    temporary.replace(name)
    temporary.unlink(missing_ok=True)  # it remains if both names already were the same file


def save(state: Mapping[str, Any], path: Path) -> None:
    """Writes ``state`` with its checksum. Raises OSError if the disk cannot store it."""
    try:
        with path.open("wb") as file:
            torch.save({**state, _CHECKSUM: checksum(state)}, file)
    except RuntimeError as error:
        # After a failed write torch raises an error about its position in the file.
        raise _from_the_disk(error) or error from error


def _from_the_disk(error: BaseException | None) -> OSError | None:
    while error is not None and not isinstance(error, OSError):
        error = error.__context__
    return error


@dataclass(frozen=True)
class Found:
    """The last intact checkpoint, and the damaged ones after it."""

    state: dict[str, Any]
    path: Path
    damaged: list[Path]


def read(folder: Path) -> dict[str, Any]:
    """The state in the last intact checkpoint in ``folder``, see :func:`find`."""
    return find(folder).state


def find(folder: Path) -> Found:
    """The last intact checkpoint in ``folder``. Warns about each damaged one. Executes no code from the files.

    Raises UsageError if there is none, or none that is intact.
    """
    kept = checkpoints_in(folder)
    if not kept:
        raise UsageError(f"{folder} holds no {CHECKPOINT} to resume from: start over with dfad-fast distill")
    damaged: dict[Path, str] = {}
    for path in kept:
        try:
            state = _read_whole(path)
        except Exception as error:
            damaged[path] = f"{path} is damaged ({type(error).__name__})"
        else:
            for damage in damaged.values():
                warnings.warn(
                    f"{damage}: resuming from {path.name}, which was written before it",
                    DFADFastWarning,
                    stacklevel=2,
                )
            return Found(state, path, list(damaged))
    raise UsageError(f"{'; '.join(damaged.values())}: start over with dfad-fast distill --overwrite")


class ChecksumDiffers(Exception):
    """The content read differs from the content written."""


def _read_whole(path: Path) -> dict[str, Any]:
    state = torch.load(path, map_location="cpu", weights_only=True)
    expected = state.pop(_CHECKSUM, None)  # older versions wrote none
    if expected is not None and checksum(state) != expected:
        raise ChecksumDiffers
    return state
