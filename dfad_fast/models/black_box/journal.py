"""The journal of a black-box teacher's queries: a file with a line for each request before it is sent, and one for its
answers."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dfad_fast.errors import RunError, UsageError, in_one_line

KEY_BYTES = 16
"""Length of an image's key."""


class Journal:
    """Lines in the file ``path``, appended and handed to the system at once, so that a killed process loses none.

    Raises RunError where the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def begin(self, run: str) -> None:
        """In place of what the file holds. ``run`` names the run to the teacher's server."""
        self._write({"run": run}, "wb")

    def kind(self, kind: str) -> None:
        self._write({"kind": kind})

    def sent(self, request: str, images: Sequence[bytes]) -> None:
        self._write({"sent": request, "images": _text(b"".join(images))})

    def answered(self, request: str, rows: np.ndarray) -> None:
        self._write({"answered": request, "rows": _text(np.ascontiguousarray(rows, "<f4").tobytes())})

    def _write(self, entry: Mapping[str, str], mode: str = "ab") -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open(mode) as file:
                file.write(json.dumps(entry).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise RunError(
                f"cannot note the queries in {self._path} ({error.strerror}), and none is sent without: make room there"
            ) from error


def read_journal(path: Path) -> Iterator[dict[str, Any]]:
    """The entries of the file, with ``images`` as a list of keys and ``rows`` as float32 [N, width]. A last line that a
    killed process left unfinished is cut off the file.

    Raises UsageError where another line is no entry.
    """
    whole, images = 0, dict[str, list[bytes]]()
    try:
        content = path.read_bytes()
        for number, line in enumerate(content.splitlines(keepends=True), 1):
            if not line.endswith(b"\n"):
                os.truncate(path, whole)
                return
            try:
                entry = json.loads(line)
                if "sent" in entry:
                    keys = base64.b64decode(entry["images"], validate=True)
                    entry["images"] = [keys[i : i + KEY_BYTES] for i in range(0, len(keys), KEY_BYTES)]
                    images[entry["sent"]] = entry["images"]
                elif "answered" in entry:
                    values = np.frombuffer(base64.b64decode(entry["rows"], validate=True), "<f4")
                    entry["rows"] = values.reshape(len(images[entry["answered"]]), -1)
                elif not entry.keys() & {"run", "kind"}:
                    raise ValueError("no entry")
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise UsageError(
                    f"{path}, line {number}, is no entry of a journal of queries ({in_one_line(error)}): bring the "
                    "file back, or start anew with dfad-fast distill"
                ) from error
            whole += len(line)
            yield entry
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}: bring the file back") from error


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
