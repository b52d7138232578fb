"""``dfad-fast export``."""

from __future__ import annotations

from typing import Any

import click

from dfad_fast.cli.options import IMAGES, quiet_option, threads_option, within
from dfad_fast.cli.output import open_console
from dfad_fast.cli.threads import set_threads


@click.command()
@click.argument("run")
@click.option(
    "--format",
    type=click.Choice(["onnx", "torch", "safetensors"]),
    default="onnx",
    show_default=True,
    help="onnx: a model for onnxruntime. torch: a program of torch.export, .pt2. safetensors: the weights.",
)
@click.option("--int8", is_flag=True, help="Of onnx: write one in 8-bit integers beside it.")
@click.option("--averaged", is_flag=True, help="The moving average of the student, if the run kept one.")
@click.option(
    "--best", is_flag=True, help="The best student at the run's evaluations, instead of the last one."
)
@click.option("--out", metavar="FILE", help="The file (default: RUN/student.onnx and the like).")
@click.option("--overwrite", is_flag=True, help="Write over files of these names.")
@click.option(
    "--samples",
    type=int,
    default=1000,
    show_default=True,
    callback=within(IMAGES),
    help="Images to check on and to measure by, at most.",
)
@click.option(
    "--calibration-images",
    type=int,
    default=512,
    show_default=True,
    callback=within(IMAGES),
    help="Generated images to scale int8 by.",
)
@click.option("--dataset", help="Dataset whose test images are looked at (default: the run's).")
@click.option("--data-dir", help="Folder with the dataset's files (default: the run's).")
@click.option("--teachers", help="Folder of teachers trained here (default: the run's).")
@threads_option()
@quiet_option
def export(run: str, format: str, threads: int | None, quiet: bool, **options: Any) -> None:
    """Hand over the student of the run in folder RUN, finished or not, as a file that was checked against it. As
    inspect, it needs the run's teacher: its weights, or its dataset's files."""
    from dfad_fast.exporting import Int8Failed, export
    from dfad_fast.exporting.table import print_export

    set_threads(threads)
    console = open_console(quiet)
    try:
        exported = export(run, format, **options)
    except Int8Failed as error:
        print_export(console, error.export)
        raise
    print_export(console, exported)
