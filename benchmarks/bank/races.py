"""The contenders take turns of one iteration each in one process."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.bank.cases import ALONE, FRESH, Case, Contender
from benchmarks.step.loops import SEED, make_networks
from dfad_fast import DFADTrainer
from dfad_fast.methods import DFAD

STEPS = 5
"""Steps of the student per iteration."""
_SEGMENTS = 8
"""Batches in a bank that gets new ones. It has the same number of segments, so each iteration seals one."""


@dataclass
class Racer:
    contender: Contender
    trainer: DFADTrainer
    seconds: list[float] = field(default_factory=list)
    """Seconds per student step, in each turn."""
    asked: float = 0.0
    """Images through the teacher per image that the student learned from."""


def measure(
    case: Case, contenders: Sequence[Contender], rounds: int, tell: Callable[[str], None]
) -> list[dict[str, Any]]:
    """A row per contender. Ratios are medians over rounds, because the turns of a round are close in time."""
    with ExitStack() as stack:
        racers = []
        for contender in contenders:
            tell(f"{case.pair.name}: filling: {contender.name}")
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dfad_fast_bank_")))
            racers.append(Racer(contender, _filled(case, contender, folder)))
        for number in range(rounds):
            tell(f"{case.pair.name}: round {number + 1} of {rounds}")
            shift = number % len(racers)
            for racer in (*racers[shift:], *racers[:shift]):
                _take_turn(racer)
        return [_row(racer, racers) for racer in racers]


def _filled(case: Case, contender: Contender, folder: Path) -> DFADTrainer:
    """A trainer after its first iteration with a student step."""
    pair = case.pair
    teacher, student = make_networks(pair)
    method = replace(DFAD, student_steps=STEPS)
    if not contender.generator:
        method = replace(method, generator=(), generator_steps=0)
    few = _SEGMENTS * pair.batch_size
    trainer = DFADTrainer(
        teacher,
        student,
        pair.image_shape,
        method,
        pair.generator,
        pair.latent_dim,
        pair.batch_size,
        SEED,
        recipe=pair.recipe,
        student_terms=contender.terms,
        source=contender.source.format(images=case.images, views=case.views, few=few),
        out=folder / "run" if contender.on_disk else None,
        bank_memory=0.0 if contender.on_disk else 1.0,
    )
    while not any(name.startswith("student/") for name in trainer.step()):
        pass
    return trainer


def _take_turn(racer: Racer) -> None:
    before = racer.trainer.distiller.state.teacher_passes
    begun = time.perf_counter()
    racer.trainer.step()
    racer.seconds.append((time.perf_counter() - begun) / STEPS)
    asked = racer.trainer.distiller.state.teacher_passes - before
    racer.asked = asked / (STEPS * racer.trainer.batch_size)


def _row(racer: Racer, racers: Sequence[Racer]) -> dict[str, Any]:
    by_name = {other.contender.name: other for other in racers}

    def times(name: str) -> float | None:
        if name not in by_name:
            return None
        pairs = zip(by_name[name].seconds, racer.seconds, strict=True)
        return statistics.median(theirs / own for theirs, own in pairs)

    terms = racer.contender.terms
    alike = FRESH if terms == "l1" else f"{FRESH}, {terms}"
    return {
        "contender": racer.contender.name,
        "seconds": statistics.median(racer.seconds),
        "runs": racer.seconds,
        "asked": racer.asked,
        "times_fresh": times(alike),
        "times_alone": times(ALONE) if terms == "l1" else None,
    }
