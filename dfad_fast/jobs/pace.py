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
_LONG = 30.0  # beside so many seconds, what only the student's first iteration does is little


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

    Trains ``trainer`` for a few seconds, or a few iterations that take longer. The time until the student sees images
    is subtracted from ``seconds``; where the source says how long that wait is, most of it is skipped and estimated
    from its first iterations. All processes of a run call this together and get the same result.

    Raises FillingTakesTooLongError if the source needs more than ``filling_share`` of the time for its first images.
    """
    first = _step(trainer)
    filling = _Filling(0, 0.0)
    if trainer.distiller.method.student_steps and not _shown(trainer):
        filling = _time_filling(trainer, first, seconds, filling_share)
        first = _step(trainer)
        while not _shown(trainer):  # in a warm-up, or if the source cannot say how long the student waits
            filling = _Filling(filling.iterations + 1, filling.seconds + first)
            _refuse_long(filling.seconds, seconds, filling_share)
            first = _step(trainer)
    each = first if filling.iterations and _is_enough(trainer, first, _LONG) else _seconds_each(trainer)
    # An iteration may fill a bank, compile or allocate first.
    beyond = max(0.0, first - each)
    if not filling.iterations:
        _refuse_long(beyond, seconds, filling_share)
    left = seconds - filling.seconds - beyond
    return max(2, filling.iterations + max(1, round(left / each)))


@dataclass(frozen=True)
class _Filling:
    """The iterations until the student sees images, and the seconds that they take."""

    iterations: int
    seconds: float


def _time_filling(trainer: DFADTrainer, first: float, seconds: float, share: float) -> _Filling:
    """Ends the wait for the student's images after some iterations. ``first`` is the seconds of the first one."""
    source = trainer.distiller.source
    taken, later = 1, 0.0
    while source.waiting and later < _SECONDS_WATCHED:
        _refuse_long(first + later, seconds, share)
        later += _step(trainer)
        taken += 1
    waiting = source.waiting
    # A bank asks the teacher about many images at once, perhaps not yet within these iterations.
    later += _seconds_of(trainer, source.stop_waiting)
    filling = _Filling(taken + waiting, first + later + waiting * later / max(1, taken - 1))
    _refuse_long(filling.seconds, seconds, share)
    return filling


def _seconds_each(trainer: DFADTrainer) -> float:
    """The seconds of an iteration once memory is allocated and networks are compiled or captured."""
    for _ in range(_STEPS_BEFORE_GRAPH if trainer.distiller.levers.graph else _STEPS_BEFORE):
        if _is_enough(trainer, once := _step(trainer), _SECONDS_WATCHED):
            return once
    total, count = 0.0, 0
    while total < _SECONDS_WATCHED:
        total += _step(trainer)
        count += 1
    return total / count


def _is_enough(trainer: DFADTrainer, seconds: float, long: float) -> bool:
    """Whether a single iteration of ``seconds`` is the pace: so long that what comes only once is little of it."""
    levers = trainer.distiller.levers
    return seconds > long and not (levers.graph or levers.compile)


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


def _step(trainer: DFADTrainer) -> float:
    """Takes an iteration. Returns its seconds."""
    return _seconds_of(trainer, trainer.step)


def _seconds_of(trainer: DFADTrainer, work: Callable[[], object]) -> float:
    """The seconds of ``work`` by the first process's clock, so that all processes stop together."""
    started = time.perf_counter()
    work()
    if trainer.distiller.device.type == "cuda":
        torch.cuda.synchronize(trainer.distiller.device)
    return collectives.on_first(lambda: time.perf_counter() - started)
