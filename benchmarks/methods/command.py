"""Compares methods, levers or sources on one teacher: equal iterations, images or seconds, several seeds, final and
best accuracy.

    python benchmarks/run.py methods --dataset digits --seeds 0,1,2,3,4 --jobs 2 --out runs/methods
    python benchmarks/run.py methods --images 268800 --methods dfad-ar-vi-bn,zskt,dafl,dfq --seeds 0,1,2
    python benchmarks/run.py methods --methods dfad --with replay=32 --with generator_ema=0.9 --seeds 0,1,2
    python benchmarks/run.py methods --methods dfad --seconds 120 --with 'source=fresh; student_init=teacher'
    python benchmarks/run.py methods --methods dfad --speed exact --speed fast --speed exact+precision=bfloat16

Every run is the one that ``dfad-fast distill --dataset D --method M --seed S --student-init random`` makes, in
OUT/M-seedS. Prints a table (Markdown) and writes it to OUT/methods.md, the figures to OUT/methods.json. With several
jobs the cores are shared out among them: accuracies stay comparable, seconds are of that share.
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
    help="Each method with these settings of a run, too, named as in config.yaml; several times.",
)
@click.option("--only-with", is_flag=True, help="Leave out each method as it is.")
@click.option("--seeds", default="0,1,2,3,4", show_default=True)
@click.option("--iterations", type=click.IntRange(min=1), help="Default: the dataset's.")
@click.option(
    "--images", type=click.IntRange(min=1), help="Generated images of each run, instead of iterations."
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=1),
    help="About so long a run, by the speed of its own iterations, instead of iterations.",
)
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Runs at a time.")
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
    """Compare methods on one teacher, each at every speed, and with every setting that is given."""
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
            "--iterations, --images and --seconds say how long a run is: give one of them"
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
        raise click.BadParameter("two of the settings would be written to one folder: give them in two calls")

    logging.basicConfig(format="%(message)s", stream=sys.stdout)
    logging.getLogger("dfad_fast").setLevel(logging.INFO)
    folder = Path(out)
    # As methods are published; --with student_init=auto is as dfad-fast distill does it.
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
