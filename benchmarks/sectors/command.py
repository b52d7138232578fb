"""How much of the sectors that their requests touch the CUDA and the Triton kernels use. Needs no GPU: nvcc's and
Triton's PTX runs in the emulator of tests/ptx.

    python benchmarks/run.py sectors --json benchmarks/results/sectors.json
"""

from __future__ import annotations

import json
from pathlib import Path

import click

from benchmarks.measuring.terminal import make_console

FILE = click.Path(dir_okay=False, path_type=Path)


@click.command("sectors")
@click.option("--json", "json_file", type=FILE, help="Also a .md table beside it.")
@click.option(
    "--compiler", "compilers", multiple=True, type=click.Choice(["cuda", "triton"]), help="Default: both."
)
@click.option(
    "--before", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="An earlier --json."
)
def command(json_file: Path | None, compilers: tuple[str, ...], before: Path | None) -> None:
    """Count the sectors of memory that each request of the GPU kernels moves and uses."""
    from benchmarks.measuring.tables import show_rows
    from benchmarks.sectors import counting, report

    try:
        rows = counting.count(compilers or counting.COMPILERS)
    except counting.Unavailable as error:
        raise click.ClickException(str(error)) from error
    if before:
        counting.beside(rows, json.loads(before.read_text())["rows"])
    show_rows(rows, report.sheet(rows), report.NOTE, make_console(), json_file)
