"""``dfad-fast export``."""

from __future__ import annotations

from typing import Any

import click
from click.core import ParameterSource

from dfad_fast.cli.options import best_option, data_options, images_option, quiet_option, threads_option
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
@click.option("--int8", is_flag=True, help="Also write the ONNX model in 8-bit integers.")
@click.option(
    "--compress",
    type=click.Choice(["pruned", "binary", "ternary"]),
    help="Compress the student first, and fine-tune it on images of the run's bank or generator.",
)
@click.option(
    "--sparsity",
    type=float,
    help="With --compress pruned: the fraction of weights that are 0 (default: 0.8).",
)
@click.option(
    "--tuning-steps",
    type=int,
    default=500,
    show_default=True,
    help="Fine-tuning steps of a compressed student.",
)
@images_option("--tuning-images", 4096, "Maximum number of images that a compressed student is tuned on.")
@click.option("--averaged", is_flag=True, help="The moving average of the student, if the run kept one.")
@best_option
@click.option("--out", metavar="FILE", help="The file (default: RUN/student.onnx and the like).")
@click.option("--overwrite", is_flag=True, help="Replace existing files.")
@images_option("--samples", 1000, "Maximum number of images to check and measure on.")
@images_option("--calibration-images", 512, "Generated images used to calibrate int8.")
@data_options
@threads_option()
@quiet_option
def export(
    run: str,
    format: str,
    compress: str | None,
    sparsity: float | None,
    tuning_steps: int,
    threads: int | None,
    quiet: bool,
    **options: Any,
) -> None:
    """Export the student of the run in folder RUN, finished or not, to a file that is checked against it.

    Like inspect, this needs the run's teacher: its weights, or its dataset's files.
    """
    from dfad_fast.errors import UsageError
    from dfad_fast.exporting import CompressionSettings, Int8Failed, export
    from dfad_fast.exporting.table import print_export
    from dfad_fast.settings import as_option

    given = click.get_current_context().get_parameter_source
    for name in ("sparsity", "tuning_steps", "tuning_images"):
        if compress is None and given(name) is ParameterSource.COMMANDLINE:
            raise UsageError(f"{as_option(name)} is for --compress: give it, or leave {as_option(name)} out")
    compression = CompressionSettings(compress, sparsity, tuning_steps) if compress else None
    set_threads(threads)
    console = open_console(quiet)
    try:
        exported = export(run, format, compression=compression, **options)
    except Int8Failed as error:
        print_export(console, error.export)
        raise
    print_export(console, exported)
