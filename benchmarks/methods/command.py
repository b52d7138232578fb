"""Compares methods, levers or sources on one teacher over several seeds, for equal iterations, images or seconds.

    python benchmarks/run.py methods --dataset digits --seeds 0,1,2,3,4 --jobs 2 --out runs/methods
    python benchmarks/run.py methods --images 268800 --methods dfad-ar-vi-bn,zskt,dafl,dfq --seeds 0,1,2
    python benchmarks/run.py methods --methods dfad --with replay=32 --with generator_ema=0.9 --seeds 0,1,2
    python benchmarks/run.py methods --methods dfad --seconds 120 --with 'source=fresh; student_init=teacher'
    python benchmarks/run.py methods --methods dfad --speed exact --speed fast --speed exact+precision=bfloat16

Every run equals ``dfad-fast distill --dataset D --method M --seed S --student-init random``, in OUT/M-seedS. Prints a
table with final and best accuracy (Markdown) and writes it to OUT/methods.md, and the figures to OUT/methods.json. With
several jobs the cores are divided among them: accuracies stay comparable, and seconds refer to a job's share.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

import click


@click.command("methods")
@click.option("--dataset", default="digits", show_default=True)
@click.option("--data-dir")
@click.option("--methods", metavar="NAME,NAME,...", help="Default: all.")
@click.option(
    "--speed", "speeds", multiple=True, default=["auto"], show_default=True, metavar="SPEED[+LEVER=VALUE]..."
)
@click.option(
    "--with",
    "variants",
    multiple=True,
    metavar="NAME=VALUE[; NAME=VALUE]...",
    help="Also run each method with these settings, named as in config.yaml; repeatable.",
)
@click.option("--only-with", is_flag=True, help="Leave out the methods without the settings of --with.")
@click.option("--seeds", default="0,1,2,3,4", show_default=True)
@click.option("--iterations", type=click.IntRange(min=1), help="Default: the dataset's.")
@click.option(
    "--images",
    type=click.IntRange(min=1),
    help="Length of each run in generated images, instead of iterations.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=1),
    help="Approximate length of each run in seconds, by its own speed, instead of iterations.",
)
@click.option(
    "--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Number of parallel runs."
)
@click.option("--out", default="runs/methods", show_default=True)
def command(
    dataset: str,
    data_dir: str | None,
    methods: str | None,
    speeds: tuple[str, ...],
    variants: tuple[str, ...],
    only_with: bool,
    seeds: str,
    iterations: int | None,
    images: int | None,
    seconds: float | None,
    jobs: int,
    out: str,
) -> None:
    """Compare methods on one teacher, each at every given speed and with every given setting."""
    from benchmarks.methods import runs
    from benchmarks.methods.report import tabulate
    from dfad_fast.errors import DFADFastError, unknown_name
    from dfad_fast.jobs.settings import DistillSettings
    from dfad_fast.methods import METHODS

    names = methods.split(",") if methods else list(METHODS)
    for name in names:
        if name not in METHODS:
            raise click.BadParameter(str(unknown_name("method", name, METHODS)))
    if sum(length is not None for length in (iterations, images, seconds)) > 1:
        raise click.BadParameter(
            "--iterations, --images and --seconds all set the length of a run: give only one"
        )
    if not all(seed.isdigit() for seed in seeds.split(",")):
        raise click.BadParameter(f"--seeds takes whole numbers separated by commas, got {seeds!r}")
    if only_with and not variants:
        raise click.BadParameter("--only-with leaves nothing to run without --with")
    settings: dict[str, dict[str, Any]] = {} if only_with else {"": {}}
    settings |= {f" with {text}": runs.settings_of(text) for text in variants}
    rows = [
        runs.Row(f"{method}{f' {speed}' if len(speeds) > 1 else ''}{variant}", method, speed, changes)
        for method in names
        for speed in speeds
        for variant, changes in settings.items()
    ]
    if len({row.folder for row in rows}) < len(rows):
        raise click.BadParameter("two of the settings would write to the same folder: use two separate calls")

    logging.basicConfig(format="%(message)s", stream=sys.stdout)
    logging.getLogger("dfad_fast").setLevel(logging.INFO)
    folder = Path(out)
    # Methods are published with a random student; --with student_init=auto gives the default of dfad-fast distill.
    common = DistillSettings(
        dataset=dataset, data_dir=data_dir, iterations=iterations, images=images, student_init="random"
    )
    found = {}
    try:
        for name, summaries in runs.compare(
            rows, common, [int(seed) for seed in seeds.split(",")], jobs, folder, seconds
        ):
            found[name] = summaries
            finals = ", ".join(f"{100 * run['student_accuracy_final']:.2f}" for run in summaries)
            click.echo(f"{name}: final accuracy {finals} %")
    except DFADFastError as error:
        raise click.ClickException(str(error)) from error
    table = tabulate(found)
    (folder / "methods.json").write_text(json.dumps(found, indent=2) + "\n")
    (folder / "methods.md").write_text(table + "\n")
    click.echo(f"\n{table}")
