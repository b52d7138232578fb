"""``dfad-fast compare``."""

from __future__ import annotations

import os
from pathlib import Path

import click

from dfad_fast.cli.output import open_console, say
from dfad_fast.errors import UsageError


@click.command()
@click.argument("runs", nargs=-1, required=True)
@click.option("--out", default="compare.png", show_default=True, help="The picture: accuracy over images.")
def compare(runs: tuple[str, ...], out: str) -> None:
    """Compare the runs in folders RUNS; seeds of the same settings form one group."""
    from dfad_fast import comparison
    from dfad_fast.runs.record import read_ended
    from dfad_fast.runs.whole_files import make_folder, write_whole

    picture = Path(out)
    if picture.suffix != ".png":
        raise UsageError(f"--out must be a picture, NAME.png, got {out}")
    folders = {os.path.realpath(run): Path(run) for run in runs}  # a run that is given twice counts once
    groups = comparison.group_runs([read_ended(folder) for folder in folders.values()])
    console = open_console()
    comparison.print_groups(console, groups)
    make_folder(picture.parent)
    write_whole(picture, lambda path: comparison.draw_groups(path, groups))
    say(console, f"The picture is {picture}.")
