"""Runs a case into a folder and digests what a user finds there."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from unittest import mock

import torch
import torch.distributed as dist
from safetensors.torch import load_file

from dfad_fast import DFADTrainer
from tests.golden.cases import CASES_OF_TWO, Case
from tests.golden.networks import SIDE, labeled, networks

Digests = dict[str, str]
"""Those of ``weights``, ``metrics`` and ``summary`` apart, so that a difference says where it is."""

WEIGHTS = ("student", "generator", "student_averaged", "student_best")
# What differs from run to run or from machine to machine.
UNSTABLE_METRICS = {"seconds"}
UNSTABLE_SUMMARY = {"seconds_distill", "versions", "device", "threads"}
SECONDS = 250
"""That the two processes have, on a busy machine too."""


def machine_type() -> str:
    """What decides which bits a run ends with: torch, and the processor, by which its libraries choose their code.

    The number of cores does not: all runs take one thread.
    """
    version = torch.__version__.partition("+")[0]
    return f"{_processor()}, {torch.backends.cpu.get_cpu_capability()}, {platform.machine()}, torch {version}"


def _processor() -> str:
    """Vendor and model; the capability alone does not tell AVX512 on one from that on another."""
    try:
        lines = [line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines()]
    except OSError:
        return platform.processor() or "unknown processor"
    facts = {name.strip(): value.strip() for name, _, value in reversed(lines)}
    parts = [facts.get(name, "") for name in ("vendor_id", "cpu family", "model")]
    return " ".join(filter(None, parts)) or "unknown processor"


def run(case: Case, folder: Path) -> Digests:
    """The digests of the case, after it was resumed to the same ones where it says so."""
    with _one_thread(), _without_pictures():
        return _run(case, folder)


def run_in_two(folder: Path) -> dict[str, Digests]:
    """The digests of all cases that run in two processes, which are started once for all of them."""
    context = get_context("forkserver")
    # What a run imports late, so that it is imported once.
    late = ["matplotlib.figure", "jinja2", "PIL.Image", "torch._dynamo"]
    context.set_forkserver_preload([__name__, *late])
    started = [context.Process(target=_run_as_one_of_two, args=(rank, folder)) for rank in range(2)]
    for process in started:
        process.start()
    for process in started:
        process.join(SECONDS)
    codes = [process.exitcode for process in started]
    for process in started:
        process.kill()
    if codes != [0, 0]:
        raise RuntimeError(f"the two processes ended with {codes}")
    return json.loads((folder / "digests.json").read_text())


def _run_as_one_of_two(rank: int, folder: Path) -> None:
    store = f"file://{folder / 'store'}"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    try:
        with _one_thread(), _without_pictures():
            digests = {name: _run(case, folder / name) for name, case in CASES_OF_TWO.items()}
        if rank == 0:
            (folder / "digests.json").write_text(json.dumps(digests))
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    dist.barrier()
    os._exit(0)  # an orderly end takes seconds


def _run(case: Case, folder: Path) -> Digests:
    _fit(case, folder / "whole", (case.iterations,))
    _wait()
    whole = digest(folder / "whole")
    if case.resume_at is not None:
        _fit(case, folder / "resumed", (case.resume_at, case.iterations - case.resume_at))
        _wait()
        resumed = digest(folder / "resumed")
        assert resumed == whole, f"the resumed run differs in its {' and '.join(differences(resumed, whole))}"
    return whole


def _fit(case: Case, out: Path, parts: tuple[int, ...]) -> None:
    """So many iterations each time, each time with new networks."""
    for part, iterations in enumerate(parts):
        teacher, student = networks(case.channels, case.batch_norm)
        trainer = DFADTrainer(
            teacher,
            student,
            (case.channels, SIDE, SIDE),
            **{"latent_dim": 8, "batch_size": 32, "seed": 3, "speed": case.speed, **case.settings},
            out=out,
            resume=part > 0,
        )
        if not part:
            trainer.planned_iterations = case.iterations
        evaluate = labeled(case.channels) if case.evaluated else None
        trainer.fit(iterations, evaluate, log_every=1, evaluate_every=2)


def digest(folder: Path) -> Digests:
    weights = hashlib.sha256()
    for name in WEIGHTS:
        path = folder / f"{name}.safetensors"
        tensors = load_file(path) if path.exists() else {}
        for key, tensor in sorted(tensors.items()):
            weights.update(f"{name} {key} {tensor.dtype} {list(tensor.shape)}\n".encode())
            weights.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    records = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    metrics = "\n".join(_without(record, UNSTABLE_METRICS) for record in records)
    summary = _without(json.loads((folder / "summary.json").read_text()), UNSTABLE_SUMMARY)
    return {
        "weights": weights.hexdigest()[:16],
        "metrics": hashlib.sha256(metrics.encode()).hexdigest()[:16],
        "summary": hashlib.sha256(summary.encode()).hexdigest()[:16],
    }


def _without(record: Mapping[str, object], left_out: set[str]) -> str:
    """As JSON, in the order in which it was written: a user sees it."""
    return json.dumps({key: value for key, value in record.items() if key not in left_out})


def differences(found: Mapping[str, str], expected: Mapping[str, str]) -> list[str]:
    """The parts whose digests differ."""
    return [part for part in expected if found.get(part) != expected[part]]


def _wait() -> None:
    """For the first of several processes, which writes the folder."""
    if dist.is_initialized():
        dist.barrier()


@contextmanager
def _one_thread() -> Iterator[None]:
    """How a sum is split over threads decides its bits; with one thread the number of cores does not matter."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def _without_pictures() -> Iterator[None]:
    """Pictures, the page and waiting for the disk take most of the time of runs as short as these. None is digested."""
    template = mock.Mock(render=mock.Mock(return_value=""))
    with (
        mock.patch("matplotlib.figure.Figure.savefig", lambda figure, path, **_: Path(path).touch()),
        mock.patch("jinja2.Environment.from_string", return_value=template),
        mock.patch("os.fsync", return_value=None),
    ):
        yield
