"""When a run records, evaluates and saves, and when it ends."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

from dfad_fast.distributed import collectives, processes
from dfad_fast.engine.distiller import Distiller
from dfad_fast.errors import DFADFastWarning
from dfad_fast.runs.settings import RunSettings
from dfad_fast.settings import refuse_no_number
from dfad_fast.wording import counted


@dataclass(frozen=True)
class Timetable:
    """When a run records, evaluates and saves.

    Iterations between records and between evaluations, seconds and iterations between checkpoints, and the last
    iteration, ``target``.
    """

    target: int
    log_every: int
    evaluate_every: int
    checkpoint_seconds: float
    checkpoint_iterations: int | None


def make_timetable(
    distiller: Distiller,
    settings: RunSettings,
    iterations: int,
    log_every: int | None,
    evaluate_every: int | None,
    evaluated: bool,
) -> Timetable:
    """Plans ``iterations`` more iterations, the same in all processes. Warns if a learning rate would rise again."""
    for name, every in (("log_every", log_every), ("evaluate_every", evaluate_every)):
        if every is not None:
            refuse_no_number(name, every, whole=True)
    state = distiller.state
    target, planned = state.iteration + iterations, state.planned_iterations
    if planned is None or planned < target:
        _warn_of_higher_rate(distiller, planned, target)
        state.planned_iterations = planned = target
    log_every = log_every or max(1, planned // 100)
    evaluate_every = evaluate_every or 4 * log_every
    told = {"iterations": target, "log_every": log_every, "evaluate_every": evaluate_every}
    collectives.refuse_differences({**told, "evaluate": evaluated})
    return Timetable(
        target, log_every, evaluate_every, settings.checkpoint_seconds, settings.checkpoint_iterations
    )


def _warn_of_higher_rate(distiller: Distiller, planned: int | None, target: int) -> None:
    """Warns if extending the plan would partly undo the schedule's decay."""
    recipe, iteration = distiller.recipe, distiller.state.iteration
    if planned is None or not iteration or not processes.is_first():
        return
    before = recipe.rate_factor((iteration - 1) / planned)
    after = recipe.rate_factor(iteration / target)
    if after > 1.01 * before:
        rate = recipe.student_lr
        warnings.warn(
            f"the student's learning rate rises again, from {before * rate:.3g} to {after * rate:.3g}, since its "
            f"schedule was planned for {counted(planned, 'iteration')} and is stretched to {target:,}: to avoid "
            "that, plan all iterations from the start (trainer.planned_iterations, before the first fit), or use "
            "a Recipe with lr_decay='constant'",
            DFADFastWarning,
            stacklevel=4,
        )
