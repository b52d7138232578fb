"""The command line of ``run.py pages``."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("pages")
@click.option(
    "--results",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("benchmarks/results"),
    show_default=True,
    help="Folder that holds ops/ops.json, step/step.json and train/train.json.",
)
@click.option(
    "--file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=Path("docs/results/speed.md"),
    show_default=True,
)
def command(results: Path, file: Path) -> None:
    """Insert the tables of result files between their markers in a page of the documentation."""
    from benchmarks.measuring.results import Unreadable
    from benchmarks.pages.tables import fill

    try:
        file.write_text(fill(file.read_text(), results))
    except Unreadable as error:
        raise click.ClickException(str(error)) from error
