"""How long and on what to measure."""

from __future__ import annotations

from dataclasses import dataclass


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
