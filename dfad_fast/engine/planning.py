"""The source of a run's images, according to method, levers and settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dfad_fast.engine.settings import DistillerSettings
from dfad_fast.errors import UsageError
from dfad_fast.methods import Method
from dfad_fast.networks.levers import Levers
from dfad_fast.sources import (
    AveragedGenerator,
    Fresh,
    GeneratorsBatch,
    Plan,
    Replay,
    Source,
    SourceSpec,
    Workbench,
)


def with_levers(method: Method, levers: Levers) -> SourceSpec:
    """The method's source with the batches that the levers request, where the source allows that."""

    def changed(spec: SourceSpec) -> SourceSpec:
        if spec.shares_batches:
            # Without a generator's step there is no batch to share.
            return Fresh() if levers.student_batches or not method.generator_steps else GeneratorsBatch()
        return spec.with_parts(tuple(map(changed, spec.parts)))

    return method.source_spec if levers.student_batches is None else changed(method.source_spec)


def idle_levers(method: Method, levers: Levers) -> list[str]:
    """The levers on the generator's batches that are set but have no effect."""
    if any(part.shares_batches for part in method.source_spec.walk()):
        return []
    found = {"student_batches": levers.student_batches is not None, "sample_together": levers.sample_together}
    return [name for name, is_set in found.items() if is_set]


def can_be_captured(method: Method, settings: DistillerSettings) -> bool:
    """Whether iterations run the same operations each time, as a CUDA graph requires."""
    older = settings.replay or settings.generator_ema is not None
    parts = method.source_spec.walk()
    return all(part.can_be_captured for part in parts) and not older and not method.reads_progress


def plan_for(method: Method, levers: Levers) -> Plan:
    """What an iteration does."""
    batches = levers.student_batches
    return Plan(
        student=method.student,
        generator=method.generator,
        student_steps=method.student_steps,
        generator_steps=method.generator_steps,
        trains_student_norms=method.student_mode == "train",
        batches=None if batches is None else max(1, batches),
        together=levers.sample_together,
    )


def with_older_images(
    source: Source, method: Method, bench: Workbench, settings: DistillerSettings
) -> Source:
    """``source``, with additional student steps on earlier images of the run if the settings request them."""
    if settings.replay:
        source = Replay(source, bench, method.student, settings.replay, settings.seed)
    if settings.generator_ema is not None:
        if not method.source_spec.generating or not method.generator_steps:
            raise UsageError("generator_ema averages a generator, but none is trained here: leave it out")
        if any(part.draws_weights for part in method.source_spec.walk()):
            raise UsageError(
                "generator_ema averages a generator, but this source reinitializes it now and then: leave it out"
            )
        source = AveragedGenerator(source, bench, method.student, settings.generator_ema)
    return source


def older_images(settings: DistillerSettings) -> list[float | None]:
    """What checkpoints record about older images, whose state fits no other settings."""
    return [settings.replay, settings.generator_ema]


def kind_of_source(spec: SourceSpec) -> str:
    """What checkpoints record about a source: everything except paths, since files may have moved."""
    return str(spec.with_paths(lambda _: ""))


def state_of_source(
    state: Mapping[str, Any], settings: DistillerSettings, spec: SourceSpec
) -> dict[str, Any]:
    """The source's part of a run's state.

    Raises RuntimeError if it belongs to another source or to other settings of older images, or comes from a version
    that kept them in another form.
    """
    if state.get("rehearsal"):
        raise RuntimeError("it comes from an earlier version, which kept older images in another form")
    own, others = older_images(settings), state.get("older_images")
    if own not in ([0, None], others):
        raise RuntimeError(f"its replay and generator_ema are {others}, not {own}")
    if state.get("source_spec", kind_of_source(spec)) != kind_of_source(spec):
        raise RuntimeError(f"its images come from {state['source_spec']}, not from {kind_of_source(spec)}")
    source: dict[str, Any] = state.get("source", {})
    return source
