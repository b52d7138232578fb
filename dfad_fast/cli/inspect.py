"""``dfad-fast inspect``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import click

from dfad_fast.cli.options import (
    best_option,
    data_options,
    images_option,
    quiet_option,
    seed_option,
    threads_option,
)
from dfad_fast.cli.output import open_console, say
from dfad_fast.cli.threads import set_threads


@click.command()
@click.argument("run")
@click.option(
    "--images",
    type=click.Choice(["real", "generated"]),
    help="What the networks are compared on (default: real test images if the run names some).",
)
@images_option("--samples", 1000, "Maximum number of images of each kind.")
@best_option
@click.option("--bins", type=int, default=15, show_default=True, help="Bins of the calibration error.")
@seed_option
@data_options
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1 ...")
@threads_option()
@click.option("--out", help="Folder for inspect.json and inspect.png (default: RUN).")
@quiet_option
def inspect(
    run: str,
    images: Literal["real", "generated"] | None,
    samples: int,
    best: bool,
    bins: int,
    seed: int,
    dataset: str | None,
    data_dir: str | None,
    teachers: str | None,
    device: str,
    threads: int | None,
    out: str | None,
    quiet: bool,
) -> None:
    """Show how similar teacher and student of the run in folder RUN are, finished or not.

    Compares accuracy, features per stage, calibration, agreement between images, and classes of generated images.
    Trains and downloads nothing.
    """
    from dfad_fast.inspection.inspecting import inspect
    from dfad_fast.inspection.picture import draw_inspection
    from dfad_fast.inspection.table import print_inspection
    from dfad_fast.jobs.trained_run import load_run
    from dfad_fast.runs.layout import INSPECTION, INSPECTION_PICTURE
    from dfad_fast.runs.whole_files import make_folder, write_whole

    set_threads(threads)
    console = open_console(quiet)
    trained = load_run(
        run,
        dataset,
        data_dir,
        teachers,
        device,
        real_images_needed=dataset is not None or images != "generated",
        best=best,
    )
    folder = Path(out) if out else trained.folder
    make_folder(folder)  # before the measurements, so that an error comes early
    chosen = images or ("real" if trained.test_set else "generated")
    inspection = inspect(trained, chosen, samples, bins, seed)
    text = json.dumps(inspection.as_data(), indent=2, allow_nan=False) + "\n"
    write_whole(folder / INSPECTION, lambda path: path.write_text(text))
    write_whole(folder / INSPECTION_PICTURE, lambda path: draw_inspection(path, inspection))
    print_inspection(console, inspection)
    say(console, f"Everything is in {folder / INSPECTION} and {folder / INSPECTION_PICTURE}.")
