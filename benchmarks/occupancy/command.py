"""Registers, blocks per multiprocessor and bytes on their way of the CUDA kernels, beside what Little's law asks for.
Needs nvcc and no GPU.

    python benchmarks/run.py occupancy --json benchmarks/results/occupancy.json
"""

from __future__ import annotations

from pathlib import Path

import click


@click.command("occupancy")
@click.option(
    "--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Also a .md table beside it."
)
def command(json_file: Path | None) -> None:
    """Show what of the CUDA kernels a multiprocessor holds, and whether that keeps its memory busy."""
    from rich.console import Console

    from benchmarks.measuring.tables import show_rows
    from benchmarks.measuring.terminal import WIDTH
    from benchmarks.occupancy import compiled, report

    try:
        rows = compiled.rows()
    except compiled.Unavailable as error:
        raise click.ClickException(str(error)) from error
    show_rows(rows, report.sheet(rows), report.note(), Console(width=WIDTH), json_file)
