"""The source of a run's images, as method, levers and settings would have it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dfad_fast.engine.settings import DistillerSettings
from dfad_fast.methods import Method
from dfad_fast.networks.levers import Levers
from dfad_fast.sources import SOURCES, AveragedGenerator, Plan, Replay, Source, Workbench


def can_be_captured(method: Method, levers: Levers, settings: DistillerSettings) -> bool:
    """Whether iterations are the same operations each time, as a CUDA graph needs it."""
    kinds: list[type[Source]] = [SOURCES[_kind_and_batches(method, levers)[0]]]
    if settings.replay:
        kinds.append(Replay)
    if settings.generator_ema is not None:
        kinds.append(AveragedGenerator)
    return all(kind.can_be_captured for kind in kinds) and not method.reads_progress


def plan_source(method: Method, levers: Levers, bench: Workbench) -> Source:
    """Where the images of the student's ``method.student_steps`` come from."""
    kind, batches = _kind_and_batches(method, levers)
    plan = Plan(
        student=method.student,
        generator=method.generator,
        student_steps=method.student_steps,
        generator_steps=method.generator_steps,
        trains_student_norms=method.student_mode == "train",
        batches=batches,
        together=levers.sample_together,
    )
    return SOURCES[kind](bench, plan)


def _kind_and_batches(method: Method, levers: Levers) -> tuple[str, int]:
    """The name of the source, and how many batches of their own the student's steps share."""
    kind, batches = method.batches, method.student_steps
    if levers.student_batches is not None and SOURCES[kind].shares_batches:
        # Without a generator's step there is no batch to share.
        wanted = levers.student_batches if method.generator_steps else max(1, levers.student_batches)
        kind, batches = "fresh", min(wanted, method.student_steps)
    return ("generator's", 0) if kind == "fresh" and not batches else (kind, batches)


def with_older_images(
    source: Source, method: Method, bench: Workbench, settings: DistillerSettings
) -> Source:
    """``source``, and further student's steps on images of the run so far, where the settings ask for them."""
    if settings.replay:
        source = Replay(source, bench, method.student, settings.replay, settings.seed)
    if settings.generator_ema is not None:
        source = AveragedGenerator(source, bench, method.student, settings.generator_ema)
    return source


def older_images(settings: DistillerSettings) -> list[float | None]:
    """What checkpoints say of them, since their state fits no other settings."""
    return [settings.replay, settings.generator_ema]


def state_of_source(state: Mapping[str, Any], settings: DistillerSettings) -> dict[str, Any]:
    """The source's part of a run's state. Raises RuntimeError where it is of other older images, or of a version that
    kept them in another form."""
    if state.get("rehearsal"):
        raise RuntimeError("it is of an earlier version, which kept older images in another form")
    own, others = older_images(settings), state.get("older_images")
    if own not in ([0, None], others):
        raise RuntimeError(f"its replay and generator_ema are {others} and not {own}")
    source: dict[str, Any] = state.get("source", {})
    return source
