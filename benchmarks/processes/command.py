"""Measures the speed-up by several processes on this machine, and the data that they exchange.

    python benchmarks/run.py processes                       # about 12 minutes on two cores
    python benchmarks/run.py processes --pairs lenet --rounds 1 --seconds 4

The contenders are one process with one thread, one with two, and two and three with one thread each. They take turns,
and torchrun starts each of them again in every round. The batch is that of ``run.py step``, rounded down to a multiple
of 6, the speed is exact. Prints the table (Markdown) and writes it to OUT/processes.md, and the figures to
OUT/processes.json.
"""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command("processes")
@click.option("--pairs", default="lenet,resnet", show_default=True)
@click.option("--method", default="dfad-ar-vi", show_default=True)
@click.option("--rounds", default=3, show_default=True)
@click.option("--seconds", default=10.0, show_default=True, help="Minimum time of each contender in a round.")
@click.option("--out", default="benchmarks/results/processes", show_default=True)
def command(pairs: str, method: str, rounds: int, seconds: float, out: str) -> None:
    """Race different numbers of processes."""
    from benchmarks.measuring.machine import describe
    from benchmarks.processes.races import measure
    from benchmarks.processes.report import sheet

    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    machine = describe("cpu")
    results = {pair: measure(pair, method, rounds, seconds) for pair in pairs.split(",")}
    text = "\n".join(sheet(pair, method, rows).markdown() for pair, rows in results.items())
    where = f"{machine['cpu']}, {machine['cores']} cores, {machine['device']}, torch {machine['versions']['torch']}"
    text += f"\n{where}; medians of {rounds} rounds; bytes and collectives are per process.\n"
    (folder / "processes.json").write_text(
        json.dumps({"machine": machine, "pairs": results}, indent=2) + "\n"
    )
    (folder / "processes.md").write_text(text)
    click.echo(text)
