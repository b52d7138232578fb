"""Races: the contenders of a case take turns, each in a separate process.

A process's memory layout changes its times by up to a third, in all of its rounds. dfad_fast therefore runs in two
processes, whose times are combined. Their difference shows how much the layout matters.
"""

from __future__ import annotations

import math
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks.measuring.process import Entry, Process
from benchmarks.measuring.results import OURS
from benchmarks.measuring.settings import Settings
from benchmarks.measuring.summaries import quartiles
from benchmarks.ops.contenders import CEILINGS
from benchmarks.ops.problems import Case

MODULE = "benchmarks.ops.contestant"
# A race holds the inputs, gradients and temporaries of all contenders at once, this many times the size of an operand.
MEMORY_PER_INPUT_BYTE = 56


class Arena:
    """Runs races. Contenders' processes last for one race; the ceilings' processes are reused and always pinned."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._scratch = tempfile.TemporaryDirectory(prefix="dfad_fast_benchmark_")
        self._ceilings: dict[str, Process] = {}

    def __enter__(self) -> Arena:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._ceilings.values():
            process.close()
        self._scratch.cleanup()

    def _start(self, allocator: str) -> Process:
        return Process(self.settings, allocator, Path(self._scratch.name), MODULE)

    def race(
        self, case: Case, contenders: Sequence[str], modes: Sequence[str], allocator: str = "pinned"
    ) -> dict[str, Any]:
        """Rows (one per contender and mode), facts about the contenders, and the machine's load."""
        load = os.getloadavg()[0]
        entries = []
        try:
            # Appended one by one, so that an interrupt here leaves no process running.
            for name in contenders:
                for _ in range(self.settings.processes if name == OURS else 1):
                    entries.append(Entry(name, self._start(allocator)))
            for name in CEILINGS:
                if name not in self._ceilings:
                    self._ceilings[name] = self._start("pinned")
                entries.append(Entry(name, self._ceilings[name]))
            moved = self._prepare(case, entries)
            for mode in modes:
                self._take_turns(mode, [e for e in entries if e.problem is None])
            self._weigh(entries)
        finally:
            for entry in entries:
                if entry.contender not in CEILINGS:
                    entry.process.close()
                elif entry.problem is not None:
                    self._ceilings.pop(entry.contender).close()
        teams = [[e for e in entries if e.contender == name] for name in (*contenders, *CEILINGS)]
        return {
            "rows": [
                _row(case, team, mode, allocator, moved.get(mode))
                for mode in modes
                for team in teams
                if all(mode in entry.turns for entry in team)
            ],
            "contestants": [
                {
                    "case": case.name,
                    "contender": team[0].contender,
                    "allocator": allocator,
                    "problem": next((entry.problem for entry in team if entry.problem), None),
                    "load_average": load,
                    **team[0].facts,
                }
                for team in teams
                if team[0].contender not in CEILINGS or team[0].problem
            ],
        }

    def _prepare(self, case: Case, entries: Sequence[Entry]) -> dict[str, int]:
        """Runs the first calls in parallel, then checks correctness; returns the minimum bytes moved per mode."""
        moved: dict[str, int] = {}
        for entry in entries:
            entry.ask("enter", case, entry.contender)
        for entry in entries:
            facts = entry.answer() or {}
            moved = facts.pop("moved", moved)
            entry.facts.update(facts)
        for entry in entries:
            if entry.contender in CEILINGS:
                continue
            entry.ask("check")
            verdict = entry.answer()
            if verdict is None:
                continue
            entry.facts.update(verdict)
            if not verdict["error"] <= verdict["tolerance"]:
                entry.problem = (
                    f"wrong: relative error {verdict['error']:.2g}, allowed {verdict['tolerance']:.2g}"
                )
        return moved

    def _take_turns(self, mode: str, entries: Sequence[Entry]) -> None:
        settings = self.settings
        end = time.perf_counter() + settings.budget_seconds
        # A first, discarded round touches the memory and determines the number of calls per run.
        for round_ in range(-1, settings.rounds):
            if round_ >= settings.fewest_rounds and time.perf_counter() > end:
                break
            # Each round starts with another contender, so that the order changes.
            shift = round_ % len(entries) if entries else 0
            for entry in (*entries[shift:], *entries[:shift]):
                entry.ask(
                    "measure", mode, settings.warm_seconds, settings.timed_seconds if round_ >= 0 else 0.0
                )
                samples = entry.answer()
                if samples is not None and round_ >= 0:
                    entry.turns.setdefault(mode, []).append(samples)

    def _weigh(self, entries: Sequence[Entry]) -> None:
        # Only the first of a contender's processes, because memory is the same in all of them.
        first = {entry.contender: entry for entry in reversed(entries)}
        contenders = [entry for name, entry in first.items() if name not in CEILINGS]
        for entry in contenders:
            entry.ask("peak")
        for entry in contenders:
            peak = entry.answer()
            if peak is not None:
                entry.facts["peak_bytes"] = peak


def _row(case: Case, team: Sequence[Entry], mode: str, allocator: str, moved: int | None) -> dict[str, Any]:
    """The combined measurements of one contender's processes."""
    turns = [entry.turns[mode] for entry in team]
    seconds = [value for taken in turns for turn in taken for value in turn.seconds]
    first, median, third = quartiles(seconds)
    rounds = [[statistics.median(turn.seconds) for turn in taken] for taken in turns]
    return {
        "op": case.op,
        "case": case.name,
        "label": case.label,
        "both_sides": case.both_sides,
        "dtype": case.dtype_name,
        "shapes": [list(shape) for shape in case.shapes],
        "elements": case.elements,
        "mode": mode,
        "contender": team[0].contender,
        "allocator": allocator,
        "median_seconds": median,
        "first_quartile_seconds": first,
        "third_quartile_seconds": third,
        "runs": len(seconds),
        "calls_per_run": turns[0][0].calls,
        "round_medians_seconds": [statistics.geometric_mean(of) for of in zip(*rounds, strict=False)],
        "process_medians_seconds": [statistics.median(own) for own in rounds],
        "page_faults_per_call": statistics.median(turn.faults for taken in turns for turn in taken),
        "minimum_bytes": moved,
        "gigabytes_per_second": None if moved is None else moved / median / 1e9,
    }


def memory_needed(case: Case) -> int:
    """A conservative estimate of the memory that a race needs, in bytes."""
    return MEMORY_PER_INPUT_BYTE * math.ceil(case.elements * case.dtype.itemsize)
