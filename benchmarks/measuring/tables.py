"""Tables for the terminal and for Markdown, and formatted quantities."""

from __future__ import annotations

from dataclasses import dataclass

from rich import box
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
