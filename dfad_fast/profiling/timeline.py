"""Records which part of a step ran when, and in which phase; clocks for the CPU and for GPUs."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from typing import Any, Protocol

import torch

OVERHEAD = "overhead"


class Clock(Protocol):
    """Time stamps that can be taken without waiting for the device and evaluated once it is done."""

    def read(self) -> Any:
        """A stamp of now."""
        ...

    def between(self, first: Any, second: Any) -> float:
        """Seconds between two stamps, valid after ``wait``."""
        ...

    def wait(self) -> None:
        """Waits until all stamps can be evaluated."""
        ...


class HostClock:
    """For devices on which calls are synchronous."""

    def read(self) -> float:
        return time.perf_counter()

    def between(self, first: float, second: float) -> float:
        return second - first

    def wait(self) -> None:
        pass


class CUDAClock:
    """Events in the queue of a GPU."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def read(self) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event

    def between(self, first: torch.cuda.Event, second: torch.cuda.Event) -> float:
        return first.elapsed_time(second) / 1000.0

    def wait(self) -> None:
        torch.cuda.synchronize(self._device)


def clock_of(device: torch.device) -> Clock:
    """The clock for calls on ``device``."""
    return CUDAClock(device) if device.type == "cuda" else HostClock()


class Timeline:
    """One part runs at any time: the one entered last, or ``OVERHEAD``. All time counts for the current part."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._stack: list[str | None] = []
        self._marks: list[tuple[Any, str | None]] = []
        self._ends: list[tuple[int, str]] = []

    def start(self) -> None:
        """From now on time counts, for ``OVERHEAD`` at first."""
        self._stack = [OVERHEAD]
        self._mark()

    def stop(self) -> None:
        """From now on time does not count."""
        self._stack = [None]
        self._mark()

    def enter(self, part: str | None) -> None:
        """From now until ``leave``, ``part`` runs; time in None does not count."""
        self._stack.append(part)
        self._mark()

    def turn_to(self, part: str) -> None:
        """From now on ``part`` runs instead of the part that was entered last."""
        if self._stack[-1] != part:
            self._stack[-1] = part
            self._mark()

    def leave(self) -> None:
        """Ends the part that was entered last."""
        self._stack.pop()
        self._mark()

    def end_phase(self, phase: str) -> None:
        """Everything since the end of the last phase belongs to ``phase``."""
        self._mark()
        self._ends.append((len(self._marks) - 1, phase))

    def _mark(self) -> None:
        self._marks.append((self._clock.read(), self._stack[-1]))

    def seconds(self) -> dict[tuple[str, str], float]:
        """Seconds by phase and part. Time after the last phase's end counts to that phase, or to "" if none ended."""
        self._clock.wait()
        sums: dict[tuple[str, str], float] = defaultdict(float)
        ends = iter(self._ends)
        end, phase = next(ends, (0, ""))
        for index, ((first, part), (second, _)) in enumerate(
            zip(self._marks[:-1], self._marks[1:], strict=True)
        ):
            if index >= end:
                end, phase = next(ends, (end, phase))
            if part is not None:
                sums[phase, part] += self._clock.between(first, second)
        return sums

    def phases(self) -> Counter[str]:
        """How often each phase ran."""
        return Counter(phase for _, phase in self._ends)
