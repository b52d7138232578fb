"""A student's steps on a bank with stored teacher outputs, compared with steps on fresh images.

    python benchmarks/run.py bank --threads 1                     # about 15 minutes
    python benchmarks/run.py bank --cases fashion --rounds 3

All contenders run in one process and take turns of one iteration (5 student steps) each. Prints the tables (Markdown)
and writes them to OUT/bank.md, and the figures to OUT/bank.json.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import click


@click.command("bank")
@click.option("--cases", default="fashion,resnet", show_default=True)
@click.option("--rounds", type=click.IntRange(min=1), default=9, show_default=True)
@click.option("--threads", type=click.IntRange(min=1), help="Number of threads; by default all cores.")
@click.option("--match", default="", help="Only contenders whose names match this pattern, and fresh.")
@click.option("--out", default="benchmarks/results/bank", show_default=True)
def command(cases: str, rounds: int, threads: int | None, match: str, out: str) -> None:
    """Race banks of images against fresh ones."""
    import torch

    from benchmarks.bank.cases import ALONE, CASES, CONTENDERS, FRESH
    from benchmarks.bank.races import measure
    from benchmarks.bank.report import sheet
    from benchmarks.measuring.machine import describe
    from dfad_fast.allocator import pin_allocator

    unknown = set(cases.split(",")) - set(CASES)
    if unknown:
        raise click.UsageError(f"unknown case {', '.join(sorted(unknown))}: choose from {', '.join(CASES)}")
    if threads:
        torch.set_num_threads(threads)
    pin_allocator()
    machine = describe("cpu")
    contenders = [c for c in CONTENDERS if re.search(match, c.name) or c.name in (FRESH, ALONE)]
    results = {
        name: measure(CASES[name], contenders, rounds, lambda what: click.echo(what, err=True))
        for name in cases.split(",")
    }
    text = "\n".join(sheet(CASES[name], rows).markdown() for name, rows in results.items())
    text += (
        f"\n{machine['cpu']}, {torch.get_num_threads()} threads, torch {machine['versions']['torch']}; medians of "
        f"{rounds} rounds.\n"
    )
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bank.json").write_text(json.dumps({"machine": machine, "cases": results}, indent=2) + "\n")
    (folder / "bank.md").write_text(text)
    click.echo(text)
