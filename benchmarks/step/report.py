"""Tables and files of ``run.py step``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.measuring.results import Results, origin, write
from benchmarks.measuring.tables import Sheet, duration, size

Row = dict[str, Any]
COLUMNS = (
    "pair", "race", "contender", "loop", "method", "speed", "allocator", "median_seconds", "first_quartile_seconds",
    "third_quartile_seconds", "runs", "images", "images_per_second", "speedup", "cost_of_method", "multiply_adds",
    "peak_bytes", "page_faults", "error", "problem",
)  # fmt: skip


def _time(row: Row) -> str:
    return (
        f"{duration(row['median_seconds'])} "
        f"({duration(row['first_quartile_seconds'])} to {duration(row['third_quartile_seconds'])})"
    )


def _ratio(row: Row, key: str) -> str:
    return f"{row[key]:.2f}x" if key in row else "-"


def pair_sheet(results: Results, pair: Row, race: str) -> Sheet:
    """The contenders of a race on one pair."""
    products = results["ceilings"]
    lines = []
    for row in results["rows"]:
        if (row["pair"], row["race"]) != (pair["name"], race):
            continue
        name = row["contender"] + (", default allocator" if row["allocator"] == "default" else "")
        if row["problem"] is not None or "median_seconds" not in row:
            lines.append((name, f"out: {row['problem'] or 'not run'}", *["-"] * 10))
            continue
        rate = row["multiply_adds"] / row["median_seconds"] if row.get("multiply_adds") else None
        shares = (f"{100 * rate / products[d]:.0f}%" if rate else "-" for d in ("float32", "bfloat16"))
        lines.append(
            (
                name,
                _time(row),
                str(row["runs"]),
                f"{row['images']:.0f}",
                f"{row['images_per_second']:.0f}",
                _ratio(row, "speedup"),
                _ratio(row, "cost_of_method"),
                f"{rate / 1e9:.0f}" if rate else "-",
                *shares,
                size(row["peak_bytes"]),
                f"{row['page_faults']:.0f}",
            )
        )
    columns = (
        "contender", "s/iteration (quartiles)", "runs", "images", "images/s", "speed-up", "of dfad's cost", "GMAC/s",
        "of fp32", "of bf16", "peak memory", "faults",
    )  # fmt: skip
    title = f"{pair['name']}, {race}: {pair['label']}, generator {pair['generator']}"
    return Sheet(title, columns, tuple(lines))


def ceilings_sheet(results: Results) -> Sheet:
    found = results["ceilings"]
    lines = [
        (f"matrix product, {name}", f"{found[name] / 1e9:.0f} GMAC/s") for name in found if name != "copy"
    ]
    if "copy" in found:
        lines.append(("copy, bytes read and written", f"{found['copy'] / 1e9:.1f} GB/s"))
    return Sheet("The machine", ("ceiling", "rate"), tuple(lines))


def breakdown_sheet(results: Results) -> Sheet:
    """Milliseconds of an iteration by part, one column per trainer."""
    names = dict.fromkeys(f"{row['pair']}, {row['contender']}" for row in results["breakdowns"])
    seconds: dict[str, dict[str, float]] = {}
    for row in results["breakdowns"]:
        column = seconds.setdefault(row["part"], {})
        name = f"{row['pair']}, {row['contender']}"
        column[name] = column.get(name, 0.0) + row["seconds"]
    lines = tuple(
        (part, *(f"{1e3 * column[name]:.1f}" if name in column else "-" for name in names))
        for part, column in seconds.items()
    )
    return Sheet("Milliseconds of an iteration by part, measured with hooks", ("part", *names), lines)


def sheets(results: Results) -> list[Sheet]:
    races = {(row["pair"], row["race"]): None for row in results["rows"]}
    return [
        *(
            pair_sheet(results, p, race)
            for p in results["pairs"]
            for name, race in races
            if name == p["name"]
        ),
        breakdown_sheet(results),
        ceilings_sheet(results),
    ]


def explanation(results: Results) -> str:
    """The machine of the measurement, and the meaning of the columns."""
    return (
        f"{origin(results)} An iteration is 5 student steps and 1 generator step; images are the images that it "
        "generates. If the student's steps share batches, as in fast, an iteration is less work than the published "
        'one. Times are medians. "speed-up": the faithful loop\'s time for dfad, with the same settings of the C '
        "library's allocator, over this time. No contender calls pin_allocator, which also requests large pages. "
        '"of dfad\'s cost": time per generated image over that of dfad run in the same way. Both are medians over '
        "rounds. GMAC/s: the multiply-adds of the method's published loop (convolutions and matrix products, including "
        "wasted ones) over this contender's time; compare the machine's matrix products. Peak memory: VmHWM of the "
        "process minus its memory after the imports; on a GPU, memory held by torch's allocator there."
    )


def print_report(results: Results, console: Console) -> None:
    console.print(explanation(results))
    for sheet in sheets(results):
        console.print(sheet.drawn())


def save(results: Results, folder: Path) -> list[Path]:
    """Writes the run as JSON, CSV, Markdown and plots; returns the files."""
    from benchmarks.step import plots

    text = "\n".join([explanation(results), "", *(sheet.markdown() for sheet in sheets(results))])
    return [*write(results, COLUMNS, text, folder), *plots.draw(results, folder)]
