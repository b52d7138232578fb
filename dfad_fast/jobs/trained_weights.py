"""Loads the weights in a run's folder into the networks that its settings name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from dfad_fast.errors import UsageError, in_one_line
from dfad_fast.models import load_weights
from dfad_fast.networks.trio import Trio
from dfad_fast.runs import record
from dfad_fast.runs.layout import AVERAGED, BEST, CHECKPOINT, GENERATOR, STUDENT, checkpoints_in


def refuse_nothing_saved(folder: Path) -> None:
    """Raises UsageError for a run without a checkpoint and a student."""
    if not checkpoints_in(folder) and not (folder / STUDENT).is_file():
        raise UsageError(
            f"{folder} holds neither {CHECKPOINT} nor {STUDENT}: the run has saved nothing yet, or these files were "
            "removed; wait for its first checkpoint, or run dfad-fast distill --overwrite"
        )


def load_trained_weights(networks: Trio, folder: Path, which: str) -> dict[str, Any] | None:
    """Loads the run's weights into ``networks`` and returns its checkpoint.

    If the checkpoint is gone or older than the weights files, loads these and returns None. ``which``: the student's
    file.

    Raises UsageError if there is no such student, or if weights and networks do not fit.
    """
    state = record.read_state(folder)
    if state is None:
        if not (folder / which).is_file():
            raise _no_such_student(folder, which)
        load_weights(networks.student, folder / which, "student")
        if (folder / GENERATOR).is_file():
            load_weights(networks.generator, folder / GENERATOR, "generator")
        return None
    weights = state["weights"]
    students = {
        STUDENT: weights["student"],
        AVERAGED: weights.get("averaged_student"),
        BEST: state.get("best_student", {}).get("weights"),
    }
    if students[which] is None:
        raise _no_such_student(folder, which)
    parts: list[tuple[nn.Module, Any]] = [
        (networks.student, students[which]),
        (networks.generator, weights["generator"]),
        (networks.connectors, weights["connectors"]),
    ]
    try:
        for network, own in parts:
            network.load_state_dict(own)
    except (RuntimeError, KeyError, TypeError) as error:
        reason = in_one_line(error)
        raise UsageError(
            f"the checkpoint in {folder} does not fit the networks that its config.yaml names ({reason}): "
            "restore the networks that the run was started with"
        ) from error
    return state


def best_iteration(checkpoint: dict[str, Any] | None, folder: Path) -> int:
    """The iteration of the best student."""
    return (
        checkpoint["best_student"]["iteration"] if checkpoint else record.iteration_of_weights(folder / BEST)
    )


def _no_such_student(folder: Path, which: str) -> UsageError:
    if which == BEST:
        return UsageError(
            f"the run in {folder} kept no best student, since it had no evaluation or is from an older version: leave "
            "--best out"
        )
    if which == AVERAGED:
        return UsageError(
            f"the run in {folder} kept no moving average of its student: leave --averaged out, or distill with "
            "--student-ema"
        )
    return UsageError(f"{folder} holds no {which}")
