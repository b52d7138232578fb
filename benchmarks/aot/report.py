"""The table of ``run.py aot``."""

from __future__ import annotations

from typing import Any

import triton
from rich.console import Console
from rich.table import Table

COLUMNS = ("kernel", "case", "dtype", "target", "registers", "spills", "shared", "loads", "stores")


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{count} x {width} B" for width, count in sorted(value.items(), reverse=True))
    return str(value)


def markdown(rows: list[dict[str, Any]]) -> str:
    lines = [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
    lines += [f"| {' | '.join(_text(row[c]) for c in COLUMNS)} |" for row in rows]
    lines.append("")
    lines.append(
        f"Triton {triton.__version__}. Registers per thread (vector registers on gfx942); spills in bytes of stack "
        "(registers on gfx942); shared memory in bytes per program; loads and stores: instructions by their width."
    )
    return "\n".join(lines)


def print_table(rows: list[dict[str, Any]]) -> None:
    table = Table(*COLUMNS)
    for row in rows:
        table.add_row(*(_text(row[c]) for c in COLUMNS))
    Console(width=170).print(table)
