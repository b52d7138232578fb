"""``metrics.csv``: the records as one table."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dfad_fast.reporting.loggers.logger import Logger, Start
from dfad_fast.runs.layout import METRICS_TABLE
from dfad_fast.runs.whole_files import write_whole


class CSVTable(Logger):
    """One row per record.

    If a record has new values, as at the first evaluation, all rows get these columns at the end.
    """

    def __init__(self, start: Start) -> None:
        self._path = start.folder / METRICS_TABLE
        self._rows: list[dict[str, Any]] = []
        self._columns: list[str] = []

    def begin(self, start: Start) -> None:
        self._rows = [dict(record) for record in start.history]
        self._columns = list(dict.fromkeys(name for row in self._rows for name in row))
        write_whole(self._path, self._write_all)

    def record(self, record: Mapping[str, Any]) -> None:
        self._rows.append(dict(record))
        new = [name for name in record if name not in self._columns]
        if new:
            self._columns += new
            write_whole(self._path, self._write_all)
        else:
            self._write(self._path, "a", [self._rows[-1]])

    def _write_all(self, path: Path) -> None:
        self._write(path, "w", [dict(zip(self._columns, self._columns, strict=True)), *self._rows])

    def _write(self, path: Path, mode: str, rows: Iterable[Mapping[str, Any]]) -> None:
        with path.open(mode, newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self._columns, lineterminator="\n").writerows(rows)
