"""The benchmark of whole iterations: the loops of a pair take turns, each in a separate process."""

from __future__ import annotations

import dataclasses
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measuring.memory import memory_available
from benchmarks.measuring.process import Process
from benchmarks.measuring.results import Results, begin
from benchmarks.measuring.settings import Settings
from benchmarks.measuring.terminal import Progress
from benchmarks.step.cases import RACES, Contender, Pair
from benchmarks.step.contestant import Turn
from benchmarks.step.racers import Racer, describe, published_loop

MODULE = "benchmarks.step.contestant"
# Side of the multiplied matrices, and number of copied bytes.
CEILINGS = (4096, 2**28)
QUICK_CEILINGS = (1024, 2**26)
GATE_ITERATIONS = 2
# Relative tolerance of every loss: sums have another order, and the first iterations hardly increase the difference.
TOLERANCE = 1e-3


def run(
    pairs: Sequence[Pair],
    contenders: Sequence[Contender],
    settings: Settings,
    progress: Progress,
    ceiling_sizes: tuple[int, int] = CEILINGS,
    names: Sequence[str] = RACES,
) -> Results:
    """Results as plain data. After an interrupt they contain the measurements so far."""
    results: Results = {**begin("step", settings), "ceilings": {}, "pairs": [], "breakdowns": []}
    races = [
        (pair, name, entrants(pair, name, contenders, settings.device)) for pair in pairs for name in names
    ]
    # Contenders that run in every race do not form a race by themselves.
    races = [(p, name, entered) for p, name, entered in races if any(c.races != RACES for c in entered)]
    done, of = 0, 1 + len(races) * (2 + settings.rounds)

    def tell(what: str) -> None:
        nonlocal done
        progress(done, of, what)
        done += 1

    try:
        with tempfile.TemporaryDirectory(prefix="dfad_fast_benchmark_") as scratch:
            tell("matrix products and copies")
            results["ceilings"] = ceilings(settings, Path(scratch), ceiling_sizes)
            results["pairs"] = [{**dataclasses.asdict(pair), "label": pair.label} for pair in pairs]
            for pair, name, entered in races:
                race(pair, name, entered, settings, Path(scratch), tell, results)
        results["complete"] = True
    except KeyboardInterrupt:
        pass
    return results


def entrants(pair: Pair, race_name: str, contenders: Sequence[Contender], device: str) -> list[Contender]:
    """The contenders of a race. The default allocator takes part only in the first race of ``unpinned`` pairs on the
    CPU."""
    entered = [c for c in contenders if pair.name in c.pairs and race_name in c.races and device in c.devices]
    if race_name == RACES[0] and device == "cpu" and pair.unpinned:
        return entered
    return [dataclasses.replace(c, allocators=("pinned",)) for c in entered]


def ceilings(settings: Settings, scratch: Path, sizes: tuple[int, int]) -> dict[str, float]:
    """The measurements of :class:`benchmarks.step.contestant.Ceilings`."""
    process = Process(settings, "pinned", scratch, MODULE)
    try:
        process.ask("enter", *sizes)
        process.answer()
        process.ask("measure")
        return process.answer()
    finally:
        process.close()


def race(
    pair: Pair,
    name: str,
    contenders: Sequence[Contender],
    settings: Settings,
    scratch: Path,
    tell: Callable[[str], None],
    results: Results,
) -> None:
    """Adds a row per contender and allocator, even after an interrupt, and the breakdowns of the first race's
    trainers."""
    racers: list[Racer] = []
    try:
        tell(f"{pair.name}, {name}: starting")
        for contender in contenders:
            for allocator in contender.allocators:
                process = Process(settings, allocator, scratch, MODULE)
                # Appended one by one, so that an interrupt here leaves no process running.
                racers.append(Racer(contender.name, process, row=contender, allocator=allocator))
                racers[-1].ask("enter", pair, contender)
        for racer in racers:
            racer.facts.update(racer.answer() or {})
        tell(f"{pair.name}, {name}: comparing losses")
        qualify(racers, pair if settings.device == "cpu" else None)
        take_turns(racers, settings, lambda round_: tell(f"{pair.name}, {name}: round {round_ + 1}"))
        if name == RACES[0]:
            results["breakdowns"] += breakdowns(pair, racers)
    finally:
        for racer in racers:
            racer.process.close()
        results["rows"] += [{"race": name, **describe(pair, racer, racers)} for racer in racers]


def breakdowns(pair: Pair, racers: Sequence[Racer]) -> list[dict[str, Any]]:
    """The time of the trainers' iterations, one row per part; the published loop has no hooks for that."""
    rows = []
    for racer in racers:
        if racer.row.loop == "trainer" and racer.allocator == "pinned":
            racer.ask("breakdown")
            parts = racer.answer() or []
            rows += [{"pair": pair.name, "contender": racer.contender, **part} for part in parts]
    return rows


def qualify(racers: Sequence[Racer], limited_by: Pair | None = None) -> None:
    """Runs the first iterations of all contenders, one after another as long as memory suffices.

    An exact contender whose losses differ from the published loop's is out.
    """
    for racer in racers:
        needed = limited_by.memory_needed(racer.row.loop) if limited_by else 0
        if needed > memory_available():
            racer.skipped = True
            racer.problem = f"skipped: about {needed / 2**30:.0f} GiB of free memory are needed"
            continue
        pinned = racer.allocator == "pinned"  # the others compute the same values and only warm up
        iterations = GATE_ITERATIONS if pinned and racer.row.exact else 1
        racer.ask("first", iterations, pinned and racer.row.loop == "faithful")
        racer.facts.update(racer.answer() or {})
    for racer in racers:
        published = published_loop(racer, racers)
        if racer.problem is not None or published is None or published.problem is not None:
            continue
        racer.facts["multiply_adds"] = published.facts["multiply_adds"]
        error = racer.facts["error"] = difference(racer.facts["losses"], published.facts["losses"])
        if not math.isfinite(error) or (racer.row.exact and error > TOLERANCE):
            racer.problem = f"wrong: losses differ by {error:.2g}, allowed {TOLERANCE:.2g}"


def difference(losses: Sequence[dict[str, float]], expected: Sequence[dict[str, float]]) -> float:
    """The largest relative difference of a loss; infinite if a loss is missing or not finite."""
    worst = 0.0
    for got, want in zip(losses, expected, strict=False):
        for name, value in want.items():
            error = abs(got.get(name, math.inf) - value) / abs(value) if value else math.inf
            worst = max(worst, error if math.isfinite(error) else math.inf)
    return worst


def take_turns(racers: Sequence[Racer], settings: Settings, tell: Callable[[int], None]) -> None:
    """One iteration of each contender per round; each round starts with another contender."""
    end = time.perf_counter() + settings.budget_seconds
    for round_ in range(settings.rounds):
        tell(round_)
        if round_ >= settings.fewest_rounds and time.perf_counter() > end:
            continue
        racing = [racer for racer in racers if racer.problem is None]
        shift = round_ % len(racing) if racing else 0
        for racer in (*racing[shift:], *racing[:shift]):
            racer.ask("measure")
            turn: Turn | None = racer.answer()
            if turn is not None:
                racer.turns.setdefault("step", []).append(turn)
