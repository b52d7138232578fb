"""The command line of ``run.py train``."""

from __future__ import annotations

from dataclasses import replace

import click

from benchmarks.measuring.options import Options, fail_if, measuring
from benchmarks.measuring.terminal import finish, make_console, progress

QUICK_IMAGES = 15_360  # generated images per run
QUICK_EPOCHS = 5  # epochs of the teacher


@click.command("train")
@measuring
@click.option(
    "--dataset", type=click.Choice(["digits", "fashion-mnist"]), default="digits", show_default=True
)
@click.option("--data-dir", help="Folder of the dataset's files; nothing is downloaded.")
@click.option(
    "--images", type=click.IntRange(min=1), help="Generated images per run.  [default: 268800; quick: 15360]"
)
@click.option("--seeds", metavar="N,N,...", help="Seeds of the runs.  [default: 0,1,2]")
@click.option(
    "--teachers", default="runs/teachers", show_default=True, help="Folder of the trained teachers."
)
def command(
    options: Options,
    dataset: str,
    data_dir: str | None,
    images: int | None,
    seeds: str | None,
    teachers: str,
) -> None:
    """Measure the time to accuracy of every method and the published loop; writes train.json, .csv, .md in --out."""
    fail_if(measure(options, dataset, data_dir, images, _numbers(seeds), teachers))


def measure(
    options: Options,
    dataset: str = "digits",
    data_dir: str | None = None,
    images: int | None = None,
    seeds: tuple[int, ...] | None = None,
    teachers: str = "runs/teachers",
) -> list[str]:
    """Returns the contenders that failed."""
    from benchmarks.measuring.settings import Settings
    from benchmarks.train import races, report
    from benchmarks.train.cases import CONTENDERS, Job
    from dfad_fast.errors import DFADFastError

    job = Job(dataset, data_dir, teachers)
    contenders = [c for c in CONTENDERS if c.quick or not options.quick]
    if options.quick:
        job = replace(job, teacher_epochs=QUICK_EPOCHS, images=QUICK_IMAGES, seeds=(0,))
    job = replace(job, images=images or job.images, seeds=seeds or job.seeds)
    console = make_console()
    try:
        with progress(console) as tell:
            results = races.run(job, contenders, Settings(options.threads, options.device), tell)
    except DFADFastError as error:
        raise click.ClickException(str(error)) from error
    finish(results, report, options.out, console)
    return [row["contender"] for row in results["rows"] if row["problem"]]


def _numbers(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    parts = text.split(",")
    if not all(part.isdigit() for part in parts):
        raise click.BadParameter(
            f"expected whole numbers separated by commas, got {text!r}", param_hint="--seeds"
        )
    return tuple(map(int, parts))
