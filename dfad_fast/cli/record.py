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
    "--images", metavar="FOLDER|FILE.npz", help="What to look at (default: the dataset's training images)."
)
@click.option("--out", required=True, metavar="FILE.safetensors", help="The record.")
@click.option("--overwrite", is_flag=True, help="Write over a file that is there.")
@click.option("--clusters", type=int, default=4, show_default=True, help="Clusters of each class, at most.")
@click.option(
    "--directions", type=int, default=8, show_default=True, help="Principal ones of each cluster, at most."
)
@click.option("--least", type=int, default=16, show_default=True, help="Images behind any mean, at least.")
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
    """Write statistics of a teacher's activations on its data to a small file, without any image in it. The methods
    dfkd and dream distill from it where the data may not go."""
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
