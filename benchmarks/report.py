"""Tables, files and plots of a run's results, and the comparison of two runs."""

from __future__ import annotations

import csv
import json
import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.contenders import OURS
from benchmarks.measure import CEILINGS

SCHEMA = 1
Row = dict[str, Any]
COLUMNS = (
    "case", "op", "dtype", "elements", "mode", "contender", "allocator", "median_seconds", "first_quartile_seconds",
    "third_quartile_seconds", "runs", "calls_per_run", "page_faults_per_call", "minimum_bytes", "gigabytes_per_second",
)  # fmt: skip


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
class Heat:
    """One case in one mode with one allocator: the rows of all contenders that finished."""

    case: str
    mode: str
    allocator: str
    rows: dict[str, Row]

    def speedup(self, contender: str) -> float | None:
        """How many times longer than ours another contender takes: the median over rounds, whose two turns were
        moments apart. None where either is missing."""
        ours, other = self.rows.get(OURS), self.rows.get(contender)
        if ours is None or other is None:
            return None
        pairs = zip(other["round_medians_seconds"], ours["round_medians_seconds"], strict=False)
        return statistics.median(b / a for b, a in pairs)

    def fastest(self, kind: str) -> str | None:
        """The fastest contender of a kind, ``eager`` or ``compile``."""
        names = [name for name in self.rows if name.startswith(kind)]
        return min(names, key=lambda name: self.rows[name]["median_seconds"], default=None)


def heats(results: dict[str, Any]) -> list[Heat]:
    grouped: dict[tuple[str, str, str], dict[str, Row]] = {}
    for row in results["rows"]:
        grouped.setdefault((row["case"], row["mode"], row["allocator"]), {})[row["contender"]] = row
    return [Heat(*key, rows) for key, rows in grouped.items()]


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


@dataclass(frozen=True)
class Sheet:
    """A table before it is drawn."""

    title: str
    columns: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]

    def drawn(self) -> Table:
        table = Table(title=self.title, box=box.SIMPLE, title_justify="left")
        for i, column in enumerate(self.columns):
            table.add_column(column, justify="left" if i == 0 else "right", no_wrap=i > 0)
        for line in self.lines:
            # A losing case is marked, so that it is seen and not only listed.
            table.add_row(*line, style="red" if any(cell.endswith("slower") for cell in line) else None)
        return table

    def markdown(self) -> str:
        rows = [self.columns, tuple("---" for _ in self.columns), *self.lines]
        return "\n".join([f"### {self.title}", "", *("| " + " | ".join(row) + " |" for row in rows), ""])


def _short(case: str, op: str) -> str:
    return case.removeprefix(op).strip()


def _rival(heat: Heat, name: str) -> str:
    row = heat.rows.get(name)
    return "-" if row is None else f"{duration(row['median_seconds'])} {_ratio(heat.speedup(name))}"


def speed_sheets(results: dict[str, Any]) -> list[Sheet]:
    """A table per op: times, how many times ours the others take, and how close to copying the least bytes."""
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


def unpinned_sheet(results: dict[str, Any]) -> Sheet | None:
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
    return Sheet("Allocator: pinned, and as the C library comes", columns, tuple(lines)) if lines else None


def _state(contestant: dict[str, Any]) -> str:
    """Why a contender is out, or whether a compiled one is healthy."""
    if contestant["problem"]:
        return f"out: {contestant['problem']}"
    kernels = contestant.get("kernels")
    if not kernels:
        return ""
    scalar = kernels - contestant["vectorised_kernels"]
    if scalar:
        return f"unhealthy: {scalar} of {kernels} kernels are scalar code"
    if contestant["mask_kernels"]:
        return "unhealthy: masks are handled by scalar code"
    return "vectorised"


def contestants_sheet(results: dict[str, Any]) -> Sheet:
    """Memory, error against the truth, compile time and what became of each contender."""
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


def print_report(results: dict[str, Any], console: Console) -> None:
    machine = results["machine"]
    console.print(
        f"{machine['cpu']}, {results['settings']['threads']} threads, {machine['device']}; "
        f"torch {machine['versions']['torch']}; {machine['backend']['name']} ({machine['backend']['reason']}); "
        f"load {machine['load_average'][0]:.2f} at the start"
    )
    console.print(
        "Times: median ± half the interquartile range; beside a rival's, how many times dfad_fast's it is. Of copy, of "
        "read: the time to copy, or only to read, the op's least bytes over dfad_fast's time."
    )
    for sheet in speed_sheets(results):
        console.print(sheet.drawn())
    if unpinned := unpinned_sheet(results):
        console.print(unpinned.drawn())
    console.print(contestants_sheet(results).drawn())
    for skipped in results["skipped"]:
        console.print(f"skipped: {skipped['case']}: {skipped['reason']}")


def save(results: dict[str, Any], folder: Path) -> list[Path]:
    """The run as JSON, CSV, Markdown and plots; what was written."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / name for name in ("ops.json", "ops.csv", "ops.md")]
    files[0].write_text(json.dumps(results, indent=1) + "\n")
    with files[1].open("w", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(results["rows"])
    sheets = [*speed_sheets(results), unpinned_sheet(results), contestants_sheet(results)]
    files[2].write_text("\n".join(sheet.markdown() for sheet in sheets if sheet))
    from benchmarks import plots

    return [*files, *plots.draw(results, folder)]


@dataclass(frozen=True)
class Change:
    """A difference between two runs that noise does not explain; above 1 the second run is slower."""

    case: str
    mode: str
    ratio: float
    noise: float


@dataclass(frozen=True)
class Comparison:
    """What changed in dfad_fast from one run to another, beside the other contenders of the same races."""

    compared: int
    changes: tuple[Change, ...]
    drift: float  # of the contenders that are no part of dfad_fast
    warnings: tuple[str, ...]

    @property
    def regressions(self) -> list[Change]:
        return [change for change in self.changes if change.ratio > 1]


def _spread(row: Row) -> float:
    """Relative deviation between rounds, from their quartiles."""
    rounds = row["round_medians_seconds"]
    if len(rounds) < 2:
        return math.inf
    first, middle, third = statistics.quantiles(rounds, n=4, method="inclusive")
    return (third - first) / 1.349 / middle


def compare(before: dict[str, Any], after: dict[str, Any], threshold: float = 0.1) -> Comparison:
    """Changes of dfad_fast's time in proportion to the other contenders', which saw the same machine.

    A change counts where it exceeds both ``threshold`` and three deviations of the rounds it was measured in.
    """
    old = {(h.case, h.mode, h.allocator): h for h in heats(before)}
    changes, drifts, compared = [], [], 0
    for heat in heats(after):
        earlier = old.get((heat.case, heat.mode, heat.allocator))
        if earlier is None or OURS not in heat.rows or OURS not in earlier.rows:
            continue
        controls = [n for n in heat.rows if n not in (OURS, *CEILINGS) and n in earlier.rows]
        if not controls:
            continue
        compared += 1
        # The geometric mean and the joint noise of the controls: a single one may have a bad day.
        moved = [heat.rows[n]["median_seconds"] / earlier.rows[n]["median_seconds"] for n in controls]
        drift = statistics.geometric_mean(moved)
        drifts.append(drift)
        ratio = heat.rows[OURS]["median_seconds"] / earlier.rows[OURS]["median_seconds"] / drift
        ours = math.hypot(_spread(heat.rows[OURS]), _spread(earlier.rows[OURS]))
        theirs = [math.hypot(_spread(heat.rows[n]), _spread(earlier.rows[n])) for n in controls]
        noise = 3 * math.hypot(
            ours, math.hypot(*theirs) / len(theirs), statistics.pstdev(map(math.log, moved))
        )
        if abs(math.log(ratio)) > max(math.log1p(threshold), noise):
            changes.append(Change(heat.case, heat.mode, ratio, noise))
    changes.sort(key=lambda change: -abs(math.log(change.ratio)))
    drift = statistics.median(drifts) if drifts else math.nan
    return Comparison(compared, tuple(changes), drift, tuple(_differences(before, after)))


def _differences(before: dict[str, Any], after: dict[str, Any]) -> Iterable[str]:
    for name in ("cpu", "cores", "device"):
        if before["machine"][name] != after["machine"][name]:
            yield f"{name} differs: {before['machine'][name]} and {after['machine'][name]}"
    if before["settings"]["threads"] != after["settings"]["threads"]:
        yield f"threads differ: {before['settings']['threads']} and {after['settings']['threads']}"
    if before["machine"]["versions"]["torch"] != after["machine"]["versions"]["torch"]:
        yield "versions of torch differ, and with them the contenders that changes are measured against"


def print_comparison(found: Comparison, console: Console) -> None:
    for warning in found.warnings:
        console.print(f"note: {warning}")
    console.print(
        f"{found.compared} pairs compared; the contenders that are no part of dfad_fast took "
        f"{found.drift:.2f}x their earlier time (median), which is taken out."
    )
    if not found.changes:
        console.print("no difference beyond noise")
        return
    lines = tuple(
        (
            c.case,
            c.mode,
            f"{c.ratio:.2f}x the time" if c.ratio > 1 else f"{1 / c.ratio:.2f}x faster",
            f"{c.noise:.0%}",
        )
        for c in found.changes
    )
    console.print(Sheet("Differences beyond noise", ("case", "mode", "dfad_fast", "noise"), lines).drawn())


class Unreadable(Exception):
    """A file that holds no results of ours; the text says what is wrong with it."""


def load(path: Path) -> dict[str, Any]:
    """Results from a file."""
    try:
        results = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise Unreadable(f"{path}: {error}") from error
    if not isinstance(results, dict) or results.get("kind") != "ops" or results.get("schema") != SCHEMA:
        raise Unreadable(f"{path} holds no results of schema {SCHEMA} of `run.py ops`")
    return results
