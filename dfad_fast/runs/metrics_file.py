"""``metrics.jsonl``: a run's records, a line each."""

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
    """Up to the first line that is no record, as the last one of a run that was killed may be.

    Raises OSError where there is no file.
    """
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


def append(path: Path, record: Mapping[str, Any]) -> None:
    """A line that cannot be written is no reason to stop a run: warns."""
    whole = None
    try:
        with path.open("ab") as file:
            whole = file.tell()
            file.write(line(record).encode())
    except OSError as error:
        if whole is not None:
            with contextlib.suppress(OSError):
                os.truncate(path, whole)  # else the next line would be one with the part that fitted
        warnings.warn(
            f"metrics are not being written to {path.parent}: {error.strerror}",
            DFADFastWarning,
            stacklevel=3,
        )


def line(record: Mapping[str, Any]) -> str:
    """``record`` as it stands in the file."""
    return json.dumps(record) + "\n"
