"""Prints a comparison."""

from __future__ import annotations

from rich.console import Console

from benchmarks.compare.comparison import Comparison
from benchmarks.measuring.results import OURS
from benchmarks.measuring.tables import Sheet


def print_comparison(found: Comparison, console: Console) -> None:
    for warning in found.warnings:
        console.print(f"note: {warning}")
    drift = (
        ""
        if found.kind == "instructions"
        else f"; the baseline contenders took {found.drift:.2f}x their earlier time (median), which is factored out"
    )
    console.print(f"{found.compared} measurements compared{drift}.")
    for name, where in found.lost:
        console.print(f"lost: {name}, {where} was measured in the first run but not in the second")
    if not found.changes and not found.accuracies and not found.lost:
        console.print("no difference beyond noise")
    noun = "instructions" if found.kind == "instructions" else "time"
    if found.changes:
        lines = tuple(
            (
                *c.name,
                f"{c.ratio:.3g}x the {noun}" if c.ratio > 1 else f"1/{1 / c.ratio:.3g} of the {noun}",
                f"{c.noise:.0%}",
            )
            for c in found.changes
        )
        console.print(Sheet("Differences beyond noise", ("what", "how", OURS, "noise"), lines).drawn())
    if found.accuracies:
        rows = tuple(
            (a.name, f"{100 * a.before:.2f} %", f"{100 * a.after:.2f} %", f"{100 * a.error:.2f} %")
            for a in found.accuracies
        )
        columns = ("contender", "before", "after", "standard error")
        console.print(Sheet("Final accuracy beyond noise", columns, rows).drawn())
