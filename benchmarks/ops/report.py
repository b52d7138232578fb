"""Tables, files and plots of a run of the ops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.measuring.results import OURS, Results, origin, write
from benchmarks.measuring.tables import Sheet, duration, size
from benchmarks.ops.contenders import CEILINGS
from benchmarks.ops.heats import Heat, Row, heats

COLUMNS = (
    "case", "op", "dtype", "elements", "mode", "contender", "allocator", "median_seconds", "first_quartile_seconds",
    "third_quartile_seconds", "runs", "calls_per_run", "page_faults_per_call", "minimum_bytes", "gigabytes_per_second",
)  # fmt: skip


def _time(row: Row | None) -> str:
    if row is None:
        return "-"
    spread = (row["third_quartile_seconds"] - row["first_quartile_seconds"]) / row["median_seconds"]
    return f"{duration(row['median_seconds'])} ±{50 * spread:.0f}%"


def _ratio(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}x" + (" slower" if value < 1 else "")


def _share(heat: Heat, ceiling: str) -> str:
    ratio = heat.speedup(ceiling)
    return "-" if ratio is None else f"{100 * ratio:.0f}%"


def _rival(heat: Heat, name: str) -> str:
    row = heat.rows.get(name)
    return "-" if row is None else f"{duration(row['median_seconds'])} {_ratio(heat.speedup(name))}"


def speed_sheets(results: Results) -> list[Sheet]:
    """One table per op: times, the others' times relative to ours, and how close ours is to copying minimum bytes."""
    groups: dict[str, list[Heat]] = {}
    for heat in heats(results):
        if heat.allocator == "pinned":
            groups.setdefault(next(iter(heat.rows.values()))["op"], []).append(heat)
    sheets = []
    for op, group in groups.items():
        rivals = [n for n in dict.fromkeys(n for h in group for n in h.rows) if n not in (OURS, *CEILINGS)]
        lines = []
        for heat in group:
            ours = heat.rows.get(OURS)
            lines.append(
                (
                    heat.case.removeprefix(op).strip(),
                    heat.mode,
                    _time(ours),
                    *(_rival(heat, name) for name in rivals),
                    f"{ours['gigabytes_per_second']:.3g}" if ours and ours["minimum_bytes"] else "-",
                    *(_share(heat, ceiling) for ceiling in CEILINGS),
                )
            )
        columns = ("case", "mode", OURS, *rivals, "GB/s", "of copy", "of read")
        sheets.append(Sheet(op, columns, tuple(lines)))
    return sheets


def unpinned_sheet(results: Results) -> Sheet | None:
    """Pinned and default allocator side by side."""
    by_key = {(h.case, h.mode, h.allocator): h for h in heats(results)}
    lines = []
    for (case, mode, allocator), heat in by_key.items():
        pinned = by_key.get((case, mode, "pinned"))
        if allocator == "pinned" or pinned is None:
            continue
        for name, row in heat.rows.items():
            if name not in CEILINGS and name in pinned.rows:
                before = pinned.rows[name]
                lines.append(
                    (
                        case,
                        mode,
                        name,
                        _time(before),
                        f"{before['page_faults_per_call']:.0f}",
                        _time(row),
                        f"{row['page_faults_per_call']:.0f}",
                    )
                )
    columns = ("case", "mode", "contender", "pinned", "faults/call", "default", "faults/call")
    return Sheet("Allocator: pinned, and the C library's default", columns, tuple(lines)) if lines else None


def _state(contestant: dict[str, Any]) -> str:
    """Why a contender is out, or whether a compiled one is vectorized."""
    if contestant["problem"]:
        return f"out: {contestant['problem']}"
    kernels = contestant.get("kernels")
    if not kernels:
        return ""
    scalar = kernels - contestant["vectorized_kernels"]
    if scalar:
        return f"unhealthy: {scalar} of {kernels} kernels are scalar code"
    if contestant["mask_kernels"]:
        return "unhealthy: masks are handled by scalar code"
    return "vectorized"


def contestants_sheet(results: Results) -> Sheet:
    """Memory, error against the truth, compile time and state of each contender."""
    lines = []
    for c in results["contestants"]:
        if c["allocator"] != "pinned":
            continue
        lines.append(
            (
                c["case"],
                c["contender"],
                size(c["peak_bytes"]) if "peak_bytes" in c else "-",
                f"{c['error']:.1e}" if "error" in c else "-",
                f"{c['compile_seconds']:.1f} s" if "compile_seconds" in c else "",
                _state(c),
            )
        )
    columns = ("case", "contender", "peak memory", "error", "compile", "state")
    return Sheet("Contenders: memory of forward+backward beyond the inputs", columns, tuple(lines))


def explanation(results: Results) -> str:
    """The machine of the measurement, and the meaning of the columns."""
    return (
        f"{origin(results)} Times: median ± half the interquartile range; for a rival also its time over dfad_fast's. "
        '"of copy", "of read": the time to copy, or to read, the op\'s minimum bytes over dfad_fast\'s time.'
    )


def print_report(results: Results, console: Console) -> None:
    console.print(explanation(results))
    for sheet in speed_sheets(results):
        console.print(sheet.drawn())
    if unpinned := unpinned_sheet(results):
        console.print(unpinned.drawn())
    console.print(contestants_sheet(results).drawn())


def save(results: Results, folder: Path) -> list[Path]:
    """Writes the run as JSON, CSV, Markdown and plots; returns the files."""
    from benchmarks.ops import plots

    sheets = [*speed_sheets(results), unpinned_sheet(results), contestants_sheet(results)]
    text = "\n".join([explanation(results), "", *(sheet.markdown() for sheet in sheets if sheet)])
    return [*write(results, COLUMNS, text, folder), *plots.draw(results, folder)]
