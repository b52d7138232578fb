"""Tables for the terminal and for Markdown, and formatted quantities."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table


def duration(seconds: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def size(count: float) -> str:
    for unit, scale in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= scale:
            value = count / scale
            return f"{value:.0f} {unit}" if value >= 1000 else f"{value:.3g} {unit}"
    return f"{count:.0f} B"


@dataclass(frozen=True)
class Sheet:
    """A table, independent of its output format."""

    title: str
    columns: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]

    def drawn(self) -> Table:
        table = Table(title=self.title, box=box.SIMPLE, title_justify="left")
        for i, column in enumerate(self.columns):
            table.add_column(column, justify="left" if i == 0 else "right", no_wrap=i > 0)
        for line in self.lines:
            # Marks losing cases, so that they stand out.
            table.add_row(*line, style="red" if any(cell.endswith("slower") for cell in line) else None)
        return table

    def markdown(self) -> str:
        rows = [self.columns, tuple("---" for _ in self.columns), *self.lines]
        return "\n".join([f"### {self.title}", "", *("| " + " | ".join(row) + " |" for row in rows), ""])


def show_rows(
    rows: Sequence[dict[str, Any]], sheet: Sheet, note: str, console: Console, json_file: Path | None
) -> None:
    """Prints ``sheet`` with ``note`` below it; writes ``rows`` to ``json_file``, and the sheet next to it as .md."""
    console.print(sheet.drawn())
    console.print(note)
    if json_file:
        lines = ",\n".join(map(json.dumps, rows))
        json_file.write_text(f'{{"rows": [\n{lines}\n]}}\n')
        json_file.with_suffix(".md").write_text(f"{sheet.markdown()}\n{note}\n")
