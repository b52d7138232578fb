"""``dfad-fast record``."""

from __future__ import annotations

from typing import Any

import click

from dfad_fast.cli.options import quiet_option, seed_option, setting_options, threads_option
from dfad_fast.cli.output import open_console, say
from dfad_fast.cli.threads import set_threads
from dfad_fast.jobs.settings import DistillSettings, distill_settings
from dfad_fast.wording import counted

_OF_TEACHER = (
    "dataset",
    "data_dir",
    "teacher",
    "teacher_weights",
    "teacher_epochs",
    "teacher_seed",
    "teachers",
    "image_shape",
    "classes",
    "mean",
    "std",
    "plugin",
    "device",
)


@click.command()
@setting_options({name: own for name, own in distill_settings().items() if name in _OF_TEACHER})
@click.option(
    "--images", metavar="FOLDER|FILE.npz", help="Images to record (default: the dataset's training images)."
)
@click.option("--out", required=True, metavar="FILE.safetensors", help="The record.")
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
@click.option("--clusters", type=int, default=4, show_default=True, help="Maximum clusters per class.")
@click.option(
    "--directions", type=int, default=8, show_default=True, help="Maximum principal directions per cluster."
)
@click.option("--least", type=int, default=16, show_default=True, help="Minimum number of images per mean.")
@seed_option
@threads_option()
@quiet_option
def record(
    images: str | None,
    out: str,
    overwrite: bool,
    clusters: int,
    directions: int,
    least: int,
    seed: int,
    threads: int | None,
    quiet: bool,
    **settings: Any,
) -> None:
    """Write statistics of a teacher's activations on its data to a small file that contains no images.

    The methods dfkd and dream distill from this file where the data is not available.
    """
    from dfad_fast.jobs.recording import write_record
    from dfad_fast.sources.recorded.measuring import Detail

    set_threads(threads)
    console = open_console(quiet)
    detail = Detail(clusters, directions, least)
    written = write_record(DistillSettings(**settings, seed=seed), images, out, detail, overwrite)
    seen, known = int((written.class_counts > 0).sum()), len(written.class_counts)
    say(
        console,
        f"{counted(written.about.images, 'image')}, {seen} of {known} classes, "
        f"{counted(len(written.cluster_means), 'cluster')}: {out}",
    )
