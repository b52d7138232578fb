"""Runs the missing runs of a study in parallel, and resumes interrupted ones."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.accuracy.study import Run
from benchmarks.measuring.machine import cpu_model, revision
from dfad_fast.data import load_dataset
from dfad_fast.engine.evaluation import TestSet
from dfad_fast.errors import DFADFastError, UsageError
from dfad_fast.jobs.config import read_config, recorded_threads
from dfad_fast.jobs.devices import choose_device
from dfad_fast.jobs.distill import Job, prepare
from dfad_fast.jobs.networks import build_pair
from dfad_fast.jobs.settings import DistillSettings
from dfad_fast.runs.folder import has_saved_nothing

Work = Callable[[Run], dict[str, Any]]
"""The work of a process on a run."""

RECORDS = "runs.jsonl"
_CURVE = ("iteration", "seconds", "generated_images", "teacher_passes", "student_passes")
_OF_TEACHERS = (
    "dataset",
    "data_dir",
    "teacher",
    "teacher_weights",
    "teacher_epochs",
    "teacher_seed",
    "teacher_count",
    "teachers",
)
_OF_INTEREST = ("student_accuracy", "agreement", "agreement_generated")


def read_records(folder: Path) -> list[dict[str, Any]]:
    """The records so far; empty if there is no file. A truncated last line is ignored."""
    path = folder / RECORDS
    records = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return records


def run_missing(
    runs: Sequence[Run], folder: Path, jobs: int, tell: Callable[[str], None], threads: int | None = None
) -> list[str]:
    """Runs ``runs`` and appends a line to ``runs.jsonl`` for each that finishes. Returns the errors of the others.

    Each run has ``threads``; None divides the cores among the ``jobs``. Each teacher is trained once, before the runs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lost = []
    code = revision()  # of the running code, even if there are commits meanwhile
    _train_teachers(runs, folder)
    threads = threads or max(1, (os.cpu_count() or 1) // jobs)
    for done, result in _each(runs, partial(run_once, folder=folder, threads=threads), jobs):
        if isinstance(result, str):
            lost.append(f"{done.data}, {done.arm}, seed {done.seed}: {result}")
            tell(f"lost: {lost[-1]}")
            continue
        record = {
            "data": done.data,
            "arm": done.arm,
            "seed": done.seed,
            "settings": done.settings,
            "revision": code,
            "cpu": cpu_model(),
            **result,
        }
        _append(folder / RECORDS, record)
        final = 100 * result["summary"]["student_accuracy_final"]
        tell(f"{done.data}, {done.arm}, seed {done.seed}: {final:.2f} %")
    return lost


def _append(path: Path, record: dict[str, Any]) -> None:
    text = path.read_text() if path.exists() else ""
    with path.open("a") as file:
        # A truncated line stays a separate line.
        file.write("\n" * (bool(text) and not text.endswith("\n")) + json.dumps(record) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _each(runs: Sequence[Run], work: Work, jobs: int) -> Iterator[tuple[Run, dict[str, Any] | str]]:
    """Each run's result, or its error, in the order in which they finish. If a process is killed, the pool loses all
    pending runs; these are run again, each alone."""
    beside: list[Run] = []
    yield from _in_pool(runs, work, jobs, beside)
    for run in beside:
        killed: list[Run] = []
        yield from _in_pool([run], work, 1, killed)
        if killed:
            yield run, "its process was killed, perhaps because memory ran out"


def _in_pool(
    runs: Sequence[Run], work: Work, jobs: int, killed: list[Run]
) -> Iterator[tuple[Run, dict[str, Any] | str]]:
    pool = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"))
    try:
        pending = {pool.submit(work, run): run for run in runs}
        for future in as_completed(pending):
            run = pending[future]
            try:
                yield run, future.result()
            except BrokenProcessPool:
                killed.append(run)
            except Exception as error:  # a user's network or term may raise anything
                yield run, f"{type(error).__name__}: {error}"
    finally:  # also after Ctrl-C: runs that have not started are canceled
        pool.shutdown(cancel_futures=True)


def _train_teachers(runs: Sequence[Run], folder: Path) -> None:
    """Trains each teacher now, because otherwise several processes would train the same one."""
    seen = []
    for run in runs:
        config = run.config(folder, "")
        teacher = [getattr(config, name) for name in _OF_TEACHERS]
        if teacher in seen:
            continue
        seen.append(teacher)
        # Its runs will report the error.
        with suppress(DFADFastError):
            dataset = load_dataset(config.dataset, config.data_dir) if config.dataset else None
            build_pair(config, dataset, choose_device(config.device), "train", None)


def run_once(run: Run, folder: Path, threads: int) -> dict[str, Any]:
    """Summary and curve of a run, which is resumed if it was interrupted, and its CPU seconds.

    ``cpu_seconds`` are those of this process in all its threads, with evaluations and files; None for a resumed run,
    whose earlier process has taken some too.
    """
    torch.set_num_threads(threads)
    real = real_images(run, folder) if run.wants_real_images else ""
    begun = time.process_time()
    config = run.config(folder, real)
    resumed = _resumed(config)
    job = resumed or prepare(config, overwrite=True)
    if job.evaluate is None:
        raise UsageError("there are no test images: set dataset or evaluate")
    if job.trainer.iteration < job.iterations:
        summary = job.run()
    else:  # it was killed before its line was written
        summary = job.trainer.save(TestSet(job.trainer.networks.teacher, job.evaluate))
    curve = [
        {name: record[name] for name in (*_CURVE, *_OF_INTEREST) if name in record}
        for record in job.trainer.history
        if "student_accuracy" in record
    ]
    cpu_seconds = None if resumed else round(time.process_time() - begun, 1)
    return {"summary": summary, "curve": curve, "cpu_seconds": cpu_seconds}


def _resumed(config: DistillSettings) -> Job | None:
    """The run to resume from its folder; None if it has to start."""
    out = Path(str(config.out))
    try:
        if not out.exists() or has_saved_nothing(out):
            return None
        # The order of sums depends on the number of threads, so another number would change the result.
        torch.set_num_threads(recorded_threads(out) or torch.get_num_threads())
        return prepare(DistillSettings(**{**read_config(out), "out": str(out)}), resume=True)
    except DFADFastError:  # such as a run of another version, or an incomplete folder
        return None


def real_images(run: Run, folder: Path) -> str:
    """The path of a file with the training images of the run's data, without labels. It is created if missing."""
    name = run.settings.get("dataset")
    if not isinstance(name, str):
        raise UsageError("real images come from a dataset: set dataset")
    place = run.settings.get("data_dir")
    of_place = f"-{hashlib.sha256(str(place).encode()).hexdigest()[:8]}" if place else ""
    path = (folder / f"{name}{of_place}-train.npz").absolute()
    if not path.exists():
        images = load_dataset(name, place).train_images
        part = path.with_suffix(f".{os.getpid()}.npz")
        np.savez(part, images=images.permute(0, 2, 3, 1).squeeze(-1).numpy())
        part.replace(path)
    return str(path)
