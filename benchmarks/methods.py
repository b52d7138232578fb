"""Compares methods, or levers, on one teacher: equal iterations or images, several seeds, final and best accuracy.

    python benchmarks/methods.py --dataset digits --seeds 0,1,2,3,4 --jobs 2 --out runs/methods
    python benchmarks/methods.py --images 268800 --methods dfad-ar-vi-bn,zskt,dafl,dfq --seeds 0,1,2
    python benchmarks/methods.py --methods dfad --with replay=32 --with generator_ema=0.9 --seeds 0,1,2
    python benchmarks/methods.py --methods dfad --speed exact --speed fast --speed exact+precision=bfloat16

Every run is the one that ``dfad-fast distill --dataset D --method M --seed S`` makes, in OUT/M-seedS. Prints a
table (Markdown) and writes it to OUT/methods.md, the figures to OUT/methods.json. With several jobs the cores are
shared out among them: accuracies stay comparable, seconds are of that share.
"""

from __future__ import annotations

import json
import logging
import os
import re
import statistics
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import fields, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import click
import torch

from dfad_fast.cli.distill import distill
from dfad_fast.errors import DFADFastError, unknown_name
from dfad_fast.jobs.distil import prepare
from dfad_fast.jobs.settings import DistillSettings
from dfad_fast.methods import METHODS

SET_HERE = ("dataset", "data_dir", "method", "speed", "seed", "iterations", "images", "out")


def run_once(config: DistillSettings, threads: int) -> dict[str, Any]:
    """The summary of one run."""
    torch.set_num_threads(threads)
    return prepare(config, overwrite=True).run()


def spread(values: list[float]) -> str:
    """Mean and sample deviation of fractions, in percent."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{100 * statistics.mean(values):.2f} ± {100 * deviation:.2f}"


def _line(name: str, rows: list[dict[str, Any]], accuracy: str) -> str:
    worst = min(row[f"{accuracy}_final"] / row["teacher_accuracy"] for row in rows)
    cells = [
        spread([row[f"{accuracy}_final"] for row in rows]),
        spread([row[f"{accuracy}_best"] for row in rows]),
        spread([row["agreement_final"] for row in rows]) if accuracy == "student_accuracy" else "-",
        f"{100 * worst:.2f}",
        f"{statistics.mean(row['seconds_distill'] for row in rows):.0f}",
        f"{rows[0]['generated_images']:,}",
    ]
    return f"| {name} | {' | '.join(cells)} |"


def tabulate(runs: dict[str, list[dict[str, Any]]]) -> str:
    """A row per method: mean and deviation over seeds, in percent; one more of its averaged student, if it has one."""
    lines = [
        "| method | final accuracy | best accuracy | agreement | worst final / teacher | seconds | generated images |",
        "|---|---|---|---|---|---|---|",
    ]
    for method, rows in runs.items():
        lines.append(_line(f"`{method}`", rows, "student_accuracy"))
        if "averaged_accuracy_final" in rows[0]:
            lines.append(_line(f"`{method}`, the averaged student", rows, "averaged_accuracy"))
    rows = next(iter(runs.values()))
    first = rows[0]
    lines.append("")
    lines.append(
        f"Teacher {100 * first['teacher_accuracy']:.2f} %, {len(rows)} seeds, mean ± sample deviation, in percent; "
        f"{first['threads']} thread(s) a run on {first['device']}, torch {first['versions']['torch']}."
    )
    return "\n".join(lines)


def _setting(text: str) -> dict[str, Any]:
    """As ``dfad-fast distill`` takes it."""
    name, equals, value = text.partition("=")
    if not equals:
        raise click.BadParameter(f"--with takes NAME=VALUE, got {text!r}")
    own = {field.name for field in fields(DistillSettings)} - set(SET_HERE)
    options = {option.name: option for option in distill.params if option.name in own}
    if name not in options:
        raise click.BadParameter(str(unknown_name("setting", name, list(options))))
    converted = options[name].type.convert(value, options[name], None)
    return {name: (converted,) if getattr(options[name], "multiple", False) else converted}


@click.command()
@click.option("--dataset", default="digits", show_default=True)
@click.option("--data-dir")
@click.option("--methods", default=",".join(METHODS), show_default=True)
@click.option(
    "--speed", "speeds", multiple=True, default=["auto"], show_default=True, metavar="SPEED[+LEVER=VALUE]..."
)
@click.option(
    "--with",
    "variants",
    multiple=True,
    metavar="NAME=VALUE",
    help="Each method with this setting of a run, too, named as in config.yaml; several times.",
)
@click.option("--seeds", default="0,1,2,3,4", show_default=True)
@click.option("--iterations", type=click.IntRange(min=1), help="Default: the dataset's.")
@click.option(
    "--images", type=click.IntRange(min=1), help="Generated images of each run, instead of iterations."
)
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Runs at a time.")
@click.option("--out", default="runs/methods", show_default=True)
def main(
    dataset: str,
    data_dir: str | None,
    methods: str,
    speeds: tuple[str, ...],
    variants: tuple[str, ...],
    seeds: str,
    iterations: int | None,
    images: int | None,
    jobs: int,
    out: str,
) -> None:
    """Compare methods on one teacher, each at every speed, and with every setting that is given."""
    logging.basicConfig(format="%(message)s", stream=sys.stdout)
    names = methods.split(",")
    for name in names:
        if name not in METHODS:
            raise click.BadParameter(str(unknown_name("method", name, METHODS)))
    if not all(seed.isdigit() for seed in seeds.split(",")):
        raise click.BadParameter(f"--seeds takes whole numbers separated by commas, got {seeds!r}")
    settings = {f" with {text}": _setting(text) for text in variants}
    folder = Path(out)

    rows = {
        f"{method}{f' {speed}' if len(speeds) > 1 else ''}{variant}": (method, speed, changes)
        for method in names
        for speed in speeds
        for variant, changes in ({"": {}} | settings).items()
    }

    names_of_folders = {row: re.sub(r"[^A-Za-z0-9.=_+-]+", "-", row) for row in rows}
    if len(set(names_of_folders.values())) < len(rows):
        raise click.BadParameter("two of the settings would be written to one folder: give them in two calls")

    def config(row: str, seed: str) -> DistillSettings:
        method, speeds, changes = rows[row]
        speed, *levers = speeds.split("+")
        where = folder / f"{names_of_folders[row]}-seed{seed}"
        return replace(
            DistillSettings(
                dataset=dataset, data_dir=data_dir, method=method, seed=int(seed), iterations=iterations, images=images,
                out=str(where), speed=speed, lever=tuple(levers) or None,
            ),
            **changes,
        )  # fmt: skip

    runs: dict[str, list[dict[str, Any]]] = {}
    threads = max(1, (os.cpu_count() or 1) // jobs)
    try:
        logging.getLogger("dfad_fast").setLevel(logging.INFO)
        prepare(config(next(iter(rows)), "0"), overwrite=True)  # trains the teacher, once, for all
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            pending = {
                name: [pool.submit(run_once, config(name, seed), threads) for seed in seeds.split(",")]
                for name in rows
            }
            for name, futures in pending.items():
                runs[name] = [future.result() for future in futures]
                finals = ", ".join(f"{100 * run['student_accuracy_final']:.2f}" for run in runs[name])
                click.echo(f"{name}: final accuracy {finals} %")
    except DFADFastError as error:
        raise SystemExit(f"methods.py: {error}") from error
    table = tabulate(runs)
    (folder / "methods.json").write_text(json.dumps(runs, indent=2) + "\n")
    (folder / "methods.md").write_text(table + "\n")
    click.echo(f"\n{table}")


if __name__ == "__main__":
    main()
