"""Measures on this machine how many iterations fit into a given time."""

from __future__ import annotations

import gc
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from dfad_fast.distributed import collectives
from dfad_fast.errors import DFADFastError, RunError, UsageError, first_line
from dfad_fast.networks.levers import TeacherPrecision
from dfad_fast.training.trainer import DFADTrainer

# Iterations that are not timed: they allocate memory, and the fourth one captures a CUDA graph.
_STEPS_BEFORE, _STEPS_BEFORE_GRAPH = 2, 5
_SECONDS_WATCHED = 6.0


@dataclass(frozen=True)
class Pace:
    """The result of timing a run: its iterations, and the teacher's precision while it was timed."""

    iterations: int
    teacher_precision: TeacherPrecision


class FillingTakesTooLongError(UsageError):
    """A source takes longer to make its first images than it may."""


def find_pace(seconds: float, trainer_in: Callable[[Path], DFADTrainer], filling_share: float = 1.0) -> Pace:
    """Times a trainer that ``trainer_in`` creates in a temporary folder, which may hold a bank. Then removes both.

    Raises FillingTakesTooLongError like :func:`iterations_in`, and RunError if a network or a custom term fails.
    """
    folder = Path(collectives.on_first(lambda: tempfile.mkdtemp(prefix="dfad-fast-timing-")))
    try:
        return _pace_of(trainer_in(folder / "run"), seconds, filling_share)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        gc.collect()  # networks and optimizers form reference cycles, and a GPU may not hold two runs


def _pace_of(trainer: DFADTrainer, seconds: float, filling_share: float) -> Pace:
    try:
        iterations = iterations_in(seconds, trainer, filling_share)
    except DFADFastError:
        raise
    except Exception as error:
        raise RunError(f"an iteration failed while it was timed: {first_line(error, 300)}") from error
    return Pace(iterations, trainer.distiller.levers.teacher_precision)


def iterations_in(seconds: float, trainer: DFADTrainer, filling_share: float = 1.0) -> int:
    """How many iterations take about ``seconds`` seconds, at least 2, without evaluations and this measurement.

    Trains ``trainer`` for a few seconds, after its source has started to hand out images. The time until then is
    subtracted from ``seconds``. All processes of a run call this together and get the same result.

    Raises FillingTakesTooLongError if the source needs more than ``filling_share`` of the time for its first images.
    """
    started, filling = time.perf_counter(), 0
    _step(trainer)
    first = _since(started)
    while trainer.distiller.method.student_steps and not _shown(trainer):
        filling += 1
        _step(trainer)
        _refuse_long(_since(started), seconds, filling_share)
    if filling:
        seconds -= _since(started)
    for _ in range(_STEPS_BEFORE_GRAPH if trainer.distiller.levers.graph else _STEPS_BEFORE):
        _step(trainer)
    started, count = time.perf_counter(), 0
    while count == 0 or _since(started) < _SECONDS_WATCHED:
        _step(trainer)
        count += 1
    each = _since(started) / count
    if not filling:
        # A source without its own steps fills its bank within the first iteration.
        beyond = max(0.0, first - each)
        _refuse_long(beyond, seconds, filling_share)
        seconds -= beyond
    return max(2, filling + max(1, round(seconds / each)))


def _refuse_long(filling: float, seconds: float, share: float) -> None:
    if filling > share * seconds:
        part = "the" if share == 1.0 else f"{share:.0%} of the"
        raise FillingTakesTooLongError(
            f"the source takes more than {part} {seconds:.0f} s of the run to make its first images: give more "
            "minutes, or a smaller prefill or bank"
        )


def _shown(trainer: DFADTrainer) -> bool:
    """Whether the student saw images in the last iteration."""
    return trainer.distiller.last is not None and trainer.distiller.last.answers is not None


def _step(trainer: DFADTrainer) -> None:
    trainer.step()
    if trainer.distiller.device.type == "cuda":
        torch.cuda.synchronize(trainer.distiller.device)


def _since(started: float) -> float:
    """Seconds by the first process's clock, so that all processes stop together."""
    return collectives.on_first(lambda: time.perf_counter() - started)
