"""Settings of a measurement: its duration and hardware."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """Duration and hardware of a measurement.

    Attributes:
        threads: threads of each contender.
        device: cpu or cuda.
        rounds: turns of each contender per mode.
        warm_seconds: untimed warm-up of each turn.
        timed_seconds: timed part of each turn.
        budget_seconds: time per mode after which no further round starts, once ``fewest_rounds`` are done.
        answer_seconds: timeout after which a process that does not respond is ended.
        processes: number of processes in which dfad_fast runs at once.
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
