"""The source of a method's images, as the levers and the settings of a run would have it."""

from __future__ import annotations

from dfad_fast.methods import Method
from dfad_fast.networks.levers import Levers
from dfad_fast.sources import SOURCES, AveragedGenerator, Plan, Replay, Source, Workbench


def plan_source(method: Method, levers: Levers, bench: Workbench) -> Source:
    """Where the images of the student's ``method.student_steps`` come from."""
    kind, batches = method.batches, method.student_steps
    if levers.student_batches is not None:
        # Without a generator's step there is no batch to share.
        wanted = levers.student_batches if method.generator_steps else max(1, levers.student_batches)
        kind, batches = "fresh", min(wanted, method.student_steps)
    if kind == "fresh" and not batches:
        kind = "generator's"
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


def with_older_images(
    source: Source,
    method: Method,
    bench: Workbench,
    replay: int,
    generator_ema: float | None,
    seed: int,
) -> Source:
    """``source``, and further student's steps on images of the run so far, where the settings ask for them."""
    if replay:
        source = Replay(source, bench, method.student, replay, seed)
    if generator_ema is not None:
        source = AveragedGenerator(source, bench, method.student, generator_ema)
    return source
