"""Tables, files and a plot of ``run.py train``."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.measuring.results import Results, origin, write
from benchmarks.measuring.summaries import spread
from benchmarks.measuring.tables import Sheet, duration
from benchmarks.train.cases import EVALUATE_EVERY, HELD, SHARES

COLUMNS = (
    "pair", "contender", "loop", "method", "seeds", "median_seconds", "first_quartile_seconds",
    "third_quartile_seconds", "runs", "run_seconds", "images", "final_accuracies", "best_accuracies", "reached",
    "teacher_accuracy", "problem",
)  # fmt: skip


def _reached(found: list[dict[str, float] | None]) -> str:
    """Medians over the seeds that reached it, and how many seeds did if not all."""
    there = [run for run in found if run is not None]
    if not there:
        return "never"
    seconds, images = (statistics.median(run[key] for run in there) for key in ("seconds", "images"))
    text = f"{seconds:.1f} s, {images:,.0f}"
    return text if len(there) == len(found) else f"{len(there)} of {len(found)} seeds: {text}"


def _spread(values: list[float]) -> str:
    return spread(values) if len(values) > 1 else f"{100 * values[0]:.2f}"


def _line(row: dict[str, Any]) -> tuple[str, ...]:
    if "final_accuracies" not in row:
        return (row["contender"], f"out: {row['problem'] or 'not run'}", *["-"] * (len(SHARES) + 3))
    low, high = row["first_quartile_seconds"], row["third_quartile_seconds"]
    return (
        row["contender"],
        f"{duration(1e3 * row['median_seconds'])} ({duration(1e3 * low)} to {duration(1e3 * high)})",
        *(_reached(found) for found in row["reached"].values()),
        f"{statistics.mean(row['run_seconds']):.1f} s",
        _spread(row["final_accuracies"]),
        _spread(row["best_accuracies"]),
    )


def sheet(results: Results) -> Sheet:
    job = results["job"]
    columns = (
        "contender", "1000 images (quartiles)", *(f"{share:.0%} of the teacher's" for share in SHARES), "whole run",
        "final accuracy", "best accuracy",
    )  # fmt: skip
    title = f"{job['dataset']}: {job['images']:,} generated images, seeds {', '.join(map(str, job['seeds']))}"
    return Sheet(title, columns, tuple(_line(row) for row in results["rows"]))


def explanation(results: Results) -> str:
    teacher = max((row["teacher_accuracy"] for row in results["rows"]), default=0.0)
    return (
        f"{origin(results)} Teacher: {100 * teacher:.2f} %. Every contender generates the same number of images and "
        f'takes turns of {EVALUATE_EVERY:,} images with the others. Seconds count training only. "of the '
        "teacher's\": seconds and generated images until the student held that share of the teacher's accuracy for "
        f"{HELD} consecutive evaluations, median over seeds. Accuracies are on the test images, in percent, mean ± "
        "sample deviation over seeds. The faithful loop is the published one, with the recipe of the others."
    )


def print_report(results: Results, console: Console) -> None:
    console.print(explanation(results))
    console.print(sheet(results).drawn())


def save(results: Results, folder: Path) -> list[Path]:
    """Writes the run as JSON, CSV, Markdown and a plot; returns the files."""
    from benchmarks.train import plots

    text = f"{explanation(results)}\n\n{sheet(results).markdown()}"
    return [*write(results, COLUMNS, text, folder), *plots.draw(results, folder)]
