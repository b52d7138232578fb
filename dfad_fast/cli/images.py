"""``dfad-fast images``."""

from __future__ import annotations

import click

from dfad_fast.cli.options import quiet_option, seed_option, threads_option, within
from dfad_fast.cli.output import open_console, say
from dfad_fast.cli.threads import set_threads
from dfad_fast.settings import Limits
from dfad_fast.wording import counted


@click.command()
@click.argument("run")
@click.option(
    "--out",
    metavar="FOLDER|FILE.npz",
    help="A folder for PNGs and labels.csv, or an .npz (default: RUN/images).",
)
@click.option(
    "--count",
    type=int,
    callback=within(Limits(1, 10**7)),
    help="Number of images, drawn by --seed (default: the whole bank, or 1000 new ones).",
)
@seed_option
@click.option("--teachers", help="Folder of teachers trained here (default: the run's).")
@click.option("--data-dir", help="Folder with the dataset's files (default: the run's).")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1 ...")
@threads_option()
@quiet_option
def images(
    run: str,
    out: str | None,
    count: int | None,
    seed: int,
    teachers: str | None,
    data_dir: str | None,
    device: str,
    threads: int | None,
    quiet: bool,
) -> None:
    """Write the images that the student of the run in folder RUN learned from, with the teacher's answers.

    They come from the run's bank or, if it kept none, are newly made by its source. --source "folder(path='...')" reads
    them.
    """
    from dfad_fast.jobs.images import write_images
    from dfad_fast.jobs.trained_run import load_run

    set_threads(threads)
    console = open_console(quiet)
    written = write_images(load_run(run, None, data_dir, teachers, device), out, count, seed)
    origin = "from the run's bank" if written.from_bank else "newly made, since the run kept none"
    say(console, f"{counted(written.count, 'image')} {origin}: {written.path}")
