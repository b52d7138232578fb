"""The journal of a black-box teacher's queries.

A file with a line for each request, written before it is sent, and a line for its answers.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from dfad_fast.errors import RunError, UsageError, in_one_line

KEY_BYTES = 16
"""Length of an image's key."""


class Journal:
    """Lines in the file ``path``. Each is flushed to the disk, so that a killed process loses none.

    A line that cannot be written completely is removed. Call ``begin`` or read ``entries`` before adding lines. Raises
    RunError if the file cannot be written or read, or was changed since the last line.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._size = 0

    def begin(self, run: str) -> None:
        """Replaces the file. ``run`` identifies the run to the teacher's server."""
        self._size = 0
        self._write({"run": run}, "wb")

    def kind(self, kind: str) -> None:
        """Adds the kind of the answers."""
        self._write({"kind": kind})

    def sent(self, request: str, images: Sequence[bytes]) -> None:
        """Adds a request, before it is sent; ``images`` are the keys of its images."""
        self._write({"sent": request, "images": _text(b"".join(images))})

    def answered(self, request: str, rows: np.ndarray) -> int:
        """Returns the position for :meth:`read_rows`."""
        text = _text(np.ascontiguousarray(rows, "<f4").tobytes())
        return self._write({"answered": request, "rows": text})

    def entries(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """The position and content of each entry, with ``images`` as a list of keys and ``rows`` as float32 [N, width].

        Cuts off an incomplete last line, which a killed process left. Raises UsageError if another line is no entry.
        """
        self._size, images = 0, dict[str, list[bytes]]()
        try:
            with self._path.open("rb") as file:
                for number, line in enumerate(file, 1):
                    if not line.endswith(b"\n"):
                        os.truncate(self._path, self._size)
                        return
                    try:
                        entry = _parsed(line, images)
                    except (ValueError, KeyError, TypeError, AttributeError) as error:
                        raise UsageError(
                            f"{self._path}, line {number}, is not a journal entry ({in_one_line(error)}): restore the "
                            "file, or start over with dfad-fast distill --overwrite"
                        ) from error
                    yield self._size, entry
                    self._size += len(line)
        except OSError as error:
            raise UsageError(f"cannot read {self._path}: {error.strerror}: restore the file") from error

    def read_rows(self, at: int, width: int) -> np.ndarray:
        """The answers at a position, float32 [N, width]."""
        try:
            with self._path.open("rb") as file:
                file.seek(at)
                return _rows(json.loads(file.readline())).reshape(-1, width)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(
                f"cannot read answers from {self._path} ({in_one_line(error)}): restore the file, then resume the run"
            ) from error

    def _write(self, entry: Mapping[str, str], mode: str = "ab") -> int:
        """Returns the position of the line."""
        at, line = self._size, json.dumps(entry).encode() + b"\n"
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open(mode, buffering=0) as file:
                if file.tell() != at:
                    raise RunError(
                        f"{self._path} is not as this run left it (another process wrote to it, or it was removed): "
                        "stop that process or restore the file, then resume the run"
                    )
                try:
                    written = 0
                    while written < len(line):
                        written += file.write(line[written:]) or 0
                    os.fsync(file.fileno())
                except BaseException:  # Ctrl-C too
                    with suppress(OSError):
                        file.truncate(at)
                    raise
        except OSError as error:
            raise RunError(
                f"cannot record the queries in {self._path} ({error.strerror}), so none was sent: make room there, "
                "then resume the run"
            ) from error
        self._size = at + len(line)
        return at


def _parsed(line: bytes, images: dict[str, list[bytes]]) -> dict[str, Any]:
    """The content of a line. ``images`` collects the keys of each request."""
    entry: dict[str, Any] = json.loads(line)
    if "sent" in entry:
        keys = base64.b64decode(entry["images"], validate=True)
        entry["images"] = [keys[i : i + KEY_BYTES] for i in range(0, len(keys), KEY_BYTES)]
        images[entry["sent"]] = entry["images"]
    elif "answered" in entry:
        entry["rows"] = _rows(entry).reshape(len(images[entry["answered"]]), -1)
    elif not entry.keys() & {"run", "kind"}:
        raise ValueError("no entry")
    return entry


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _rows(entry: Mapping[str, str]) -> np.ndarray:
    return np.frombuffer(base64.b64decode(entry["rows"], validate=True), "<f4")
