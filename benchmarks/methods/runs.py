"""The compared runs: their settings and summaries."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import click
import torch

from benchmarks.measuring.names import as_file_name
from dfad_fast.cli.distill import distill
from dfad_fast.errors import unknown_name
from dfad_fast.jobs.distill import prepare
from dfad_fast.jobs.settings import LENGTHS, DistillSettings

SET_HERE = ("dataset", "data_dir", "method", "speed", "seed", *LENGTHS, "out")


@dataclass(frozen=True)
class Row:
    """A row of the table: a method at a speed (SPEED+LEVER=VALUE with levers), with further settings of the run."""

    name: str
    method: str
    speed: str
    settings: dict[str, Any]

    @property
    def folder(self) -> str:
        return as_file_name(self.name)

    def config(self, common: DistillSettings, seed: int, out: Path) -> DistillSettings:
        speed, *levers = self.speed.split("+")
        where = out / f"{self.folder}-seed{seed}"
        own = replace(
            common, method=self.method, seed=seed, out=str(where), speed=speed, lever=tuple(levers) or None
        )
        return replace(own, **self.settings)


def compare(
    rows: Sequence[Row],
    common: DistillSettings,
    seeds: Sequence[int],
    jobs: int,
    out: Path,
    seconds: float | None = None,
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The summaries of each row by seed. ``jobs`` runs share the cores in parallel. ``seconds`` is the length of a run,
    if it is not given in iterations or images."""
    threads = max(1, (os.cpu_count() or 1) // jobs)
    # Trains the teacher once for all runs.
    prepare(rows[0].config(common, 0, out), overwrite=True)
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        pending = {
            row.name: [
                pool.submit(run_once, row.config(common, seed, out), threads, seconds) for seed in seeds
            ]
            for row in rows
        }
        for name, futures in pending.items():
            yield name, [future.result() for future in futures]


def run_once(config: DistillSettings, threads: int, seconds: float | None) -> dict[str, Any]:
    """The summary of one run."""
    torch.set_num_threads(threads)
    if seconds is not None:
        config = replace(config, minutes=seconds / 60, iterations=None, images=None)
    return prepare(config, overwrite=True).run()


def settings_of(text: str) -> dict[str, Any]:
    """Parses one or several settings of a run, NAME=VALUE; NAME=VALUE..."""
    return {name: value for part in text.split(";") for name, value in setting(part.strip()).items()}


def setting(text: str) -> dict[str, Any]:
    """Parses one setting as ``dfad-fast distill`` does."""
    name, equals, value = text.partition("=")
    if not equals:
        raise click.BadParameter(f"--with takes NAME=VALUE, got {text!r}")
    own = {field.name for field in fields(DistillSettings)} - set(SET_HERE)
    options = {option.name: option for option in distill.params if option.name in own}
    if name not in options:
        raise click.BadParameter(str(unknown_name("setting", name, list(options))))
    converted = options[name].type.convert(value, options[name], None)
    return {name: (converted,) if getattr(options[name], "multiple", False) else converted}
