"""Races: the contenders of a case take turns, each in a process of its own.

A process is told (mode, seconds to warm up, seconds to time) over a pipe and answers with its samples, so that all
contenders see the same minutes of the machine. Their C library's allocator is pinned: by default it returns large
blocks to the system after use and pays page faults for them at the next call, which can make eager mode several times
slower from one process to the next. Both are measured, pinned by default.

Where a process's memory happens to lie changes its times by up to a third, in all of its rounds. dfad_fast therefore
runs in two processes, whose times are taken together; how far they differ is what luck does.
"""

from __future__ import annotations

import importlib
import math
import os
import signal
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks.contenders import OURS

PINNED = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_MMAP_THRESHOLD_": str(2**40),
    "MALLOC_TRIM_THRESHOLD_": str(2**40),
    "MALLOC_TOP_PAD_": str(2**26),
}
ALLOCATORS = {"pinned": PINNED, "default": {}}
CEILINGS = ("copy", "read")
# A race holds all contenders' inputs, gradients and temporaries at once: this many times one operand.
MEMORY_PER_INPUT_BYTE = 56


@dataclass(frozen=True)
class Settings:
    """How long and on what to measure.

    Attributes:
        threads: of each contender.
        device: cpu or cuda.
        rounds: turns of each contender per mode.
        warm_seconds: of each turn, untimed.
        timed_seconds: of each turn.
        budget_seconds: per mode; past it no further round is started, once ``fewest_rounds`` are done.
        answer_seconds: a process that is silent for longer is ended.
        processes: in which dfad_fast runs at once.
    """

    threads: int
    device: str = "cpu"
    rounds: int = 6
    warm_seconds: float = 0.01
    timed_seconds: float = 0.02
    budget_seconds: float = 4.0
    fewest_rounds: int = 3
    answer_seconds: float = 300.0
    processes: int = 2


class Lost(Exception):
    """A contender's process failed, died or fell silent; the text says which."""


def _serve(pipe: Connection, log: str, threads: int, device: str, module: str) -> None:
    # Ctrl-C reaches the whole group; the parent alone answers it, and ends its children.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    import torch

    contestant = importlib.import_module(module)
    torch.set_num_threads(threads)
    current: Any = None
    while True:
        try:
            name, arguments = pipe.recv()
        except EOFError:
            return
        try:
            if name == "enter":
                current = None
                contestant.release_memory()
                current = contestant.enter(*arguments, device)
                answer = current.prepare()
            else:
                answer = getattr(current, name)(*arguments)
            pipe.send((True, answer))
        except Exception as error:
            traceback.print_exc()
            pipe.send((False, f"{type(error).__name__}: {error}"))


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)


class Process:
    """A child that runs contestants; questions go to it without waiting, answers come in order.

    ``module`` names the contestants' module: its ``enter`` makes one, its ``release_memory`` clears up before.
    """

    def __init__(
        self, settings: Settings, allocator: str, folder: Path, module: str = "benchmarks.contestant"
    ) -> None:
        self._settings = settings
        handle, log = tempfile.mkstemp(".log", dir=folder)
        os.close(handle)
        self._log = Path(log)
        environment = {
            **ALLOCATORS[allocator],
            "OMP_NUM_THREADS": str(settings.threads),
            "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"),
            # Workers that wait for something to compile would outlive the compilation.
            "TORCHINDUCTOR_COMPILE_THREADS": "1",
        }
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        arguments = (theirs, log, settings.threads, settings.device, module)
        self._process = context.Process(target=_serve, args=arguments, daemon=True)
        with _environment(environment):
            self._process.start()
        theirs.close()

    def ask(self, name: str, *arguments: Any) -> None:
        try:
            self._pipe.send((name, arguments))
        except OSError:
            raise self._death() from None

    def answer(self) -> Any:
        try:
            if not self._pipe.poll(self._settings.answer_seconds):
                self.close()
                raise Lost(f"no answer within {self._settings.answer_seconds:g} s")
            succeeded, value = self._pipe.recv()
        except (EOFError, OSError):
            raise self._death() from None
        if not succeeded:
            raise Lost(_first_line(value))
        return value

    def _death(self) -> Lost:
        self._process.join(5)
        code = self._process.exitcode
        how = f"signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit code {code}"
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return Lost(f"its process died ({how})" + (f": {lines[-1][:200]}" if lines else ""))

    def close(self) -> None:
        self._pipe.close()
        self._process.terminate()
        self._process.join(5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _first_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[0][:300] if lines else "an error without a text"


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    if len(values) == 1:
        return values[0], values[0], values[0]
    first, middle, third = statistics.quantiles(values, n=4, method="inclusive")
    return first, middle, third


@dataclass
class Entry:
    """One contender in a race, and what came of it."""

    contender: str
    process: Process
    facts: dict[str, Any] = field(default_factory=dict)
    problem: str | None = None
    turns: dict[str, list[Any]] = field(default_factory=dict)

    def ask(self, name: str, *arguments: Any) -> None:
        self._attempt(lambda: self.process.ask(name, *arguments))

    def answer(self) -> Any:
        return self._attempt(self.process.answer)

    def _attempt(self, action: Callable[[], Any]) -> Any:
        """None, and the reason noted, where the process is lost."""
        if self.problem is not None:
            return None
        try:
            return action()
        except Lost as lost:
            self.problem = str(lost)
            return None


class Arena:
    """Runs races. The ceilings' processes last from race to race and are always pinned, contenders' last for one."""

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
        return Process(self.settings, allocator, Path(self._scratch.name))

    def race(
        self, case: Any, contenders: Sequence[str], modes: Sequence[str], allocator: str = "pinned"
    ) -> dict[str, Any]:
        """Rows (a contender in a mode), the contenders' facts, and how loaded the machine was."""
        load = os.getloadavg()[0]
        entries = []
        try:
            # Appended one by one, so that an interrupt here leaves none behind.
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

    def _prepare(self, case: Any, entries: Sequence[Entry]) -> dict[str, int]:
        """First calls side by side, then the correctness gate; the bytes that each mode must move."""
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
        # The round before the first is thrown away: memory is touched, and the number of calls per run is found.
        for round_ in range(-1, settings.rounds):
            if round_ >= settings.fewest_rounds and time.perf_counter() > end:
                break
            # Each round starts with another contender, so that none always follows the same one.
            shift = round_ % len(entries) if entries else 0
            for entry in (*entries[shift:], *entries[:shift]):
                entry.ask(
                    "measure", mode, settings.warm_seconds, settings.timed_seconds if round_ >= 0 else 0.0
                )
                samples = entry.answer()
                if samples is not None and round_ >= 0:
                    entry.turns.setdefault(mode, []).append(samples)

    def _weigh(self, entries: Sequence[Entry]) -> None:
        # Of several processes of one contender the first: memory is the same in all of them.
        first = {entry.contender: entry for entry in reversed(entries)}
        contenders = [entry for name, entry in first.items() if name not in CEILINGS]
        for entry in contenders:
            entry.ask("peak")
        for entry in contenders:
            peak = entry.answer()
            if peak is not None:
                entry.facts["peak_bytes"] = peak


def _row(case: Any, team: Sequence[Entry], mode: str, allocator: str, moved: int | None) -> dict[str, Any]:
    """What the processes of one contender measured."""
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


def memory_needed(case: Any) -> int:
    """A careful guess at what a race takes."""
    return MEMORY_PER_INPUT_BYTE * math.ceil(case.elements * case.dtype.itemsize)


def memory_available() -> int:
    """Bytes that the system can still give, or a very large number where it does not say."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return sys.maxsize
