"""``metrics.jsonl``: a run's records, one per line."""

from __future__ import annotations

import contextlib
import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dfad_fast.errors import DFADFastWarning

_POSITION = ("iteration", "generated_images")


def read_records(path: Path) -> list[dict[str, Any]]:
    """The records up to the first invalid line, such as the last line of a run that was killed.

    Raises OSError if there is no file.
    """
    records: list[dict[str, Any]] = []
    for line in path.read_bytes().splitlines():
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            break
        # A bool is an int in Python, and an int may be larger than any real count.
        if not isinstance(record, dict) or not all(
            type(record.get(name)) is int and 0 <= record[name] < 2**63 for name in _POSITION
        ):
            break
        records.append(record)
    return records


def append(path: Path, record: Mapping[str, Any]) -> None:
    """Appends a record. Only warns if it cannot be written, so that the run continues."""
    whole = None
    try:
        with path.open("ab") as file:
            whole = file.tell()
            file.write(line(record).encode())
    except OSError as error:
        if whole is not None:
            with contextlib.suppress(OSError):
                os.truncate(path, whole)  # otherwise the next line would continue the incomplete one
        warnings.warn(
            f"metrics cannot be written to {path.parent}: {error.strerror}",
            DFADFastWarning,
            stacklevel=3,
        )


def line(record: Mapping[str, Any]) -> str:
    """``record`` as a line of the file."""
    return json.dumps(record) + "\n"
