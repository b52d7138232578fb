"""Compares the layers of whole networks with eager PyTorch: what a student's step and a teacher's answer take.

    python benchmarks/run.py networks --threads 1                 # about 3 minutes
    python benchmarks/run.py networks --students resnet20-w8 --teachers resnet20

The contenders take turns in one process. Prints the table, and writes it to OUT/networks.md and the figures to
OUT/networks.json.
"""

from __future__ import annotations

from pathlib import Path

import click

_STUDENTS = "resnet10-w8,resnet20-w8,resnet18"
_TEACHERS = "resnet10-w16,resnet20,resnet34"


@click.command("networks")
@click.option(
    "--students", default=_STUDENTS, show_default=True, help="Networks to train, separated by commas."
)
@click.option(
    "--teachers", default=_TEACHERS, show_default=True, help="Networks to freeze, separated by commas."
)
@click.option("--rounds", type=click.IntRange(min=1), default=15, show_default=True)
@click.option("--threads", type=click.IntRange(min=1), help="Number of threads; by default all cores.")
@click.option("--out", default="benchmarks/results/networks", show_default=True)
def command(students: str, teachers: str, rounds: int, threads: int | None, out: str) -> None:
    """Race whole networks, as students and as frozen teachers."""
    import torch

    from benchmarks.measuring.machine import describe, revision
    from benchmarks.measuring.tables import show_rows
    from benchmarks.measuring.terminal import make_console
    from benchmarks.networks.races import measure, sheet
    from dfad_fast.allocator import pin_allocator
    from dfad_fast.wording import counted

    if threads:
        torch.set_num_threads(threads)
    pin_allocator()
    machine = describe("cpu")
    rows = []
    for role, names in (("student", students), ("teacher", teachers)):
        for name in filter(None, names.split(",")):
            click.echo(f"{role} {name}", err=True)
            rows.append(measure(role, name, rounds))
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    note = (
        f"{machine['cpu']}, {counted(torch.get_num_threads(), 'thread')}, torch {machine['versions']['torch']}, "
        f"revision {revision()}; medians of {rounds} rounds. In brackets: the time over dfad_fast's. A student: "
        "forward and backward in train mode. A teacher: its answer in eval mode, with batch norm folded by dfad_fast. "
        "Apart: the largest difference of the logits, over the largest logit."
    )
    show_rows(rows, sheet(rows), note, make_console(), folder / "networks.json")
