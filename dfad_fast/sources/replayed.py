"""A source after which the student takes further steps on batches that it has learned from before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dfad_fast.errors import UsageError
from dfad_fast.sources.replay import Replay
from dfad_fast.sources.source import Plan, Source, Workbench
from dfad_fast.sources.spec import SourceSpec


@dataclass(frozen=True)
class Replayed(SourceSpec):
    """The batches of ``of``, and ``steps`` further student's steps an iteration, each on a kept batch.

    At most ``batches`` are kept: at any time a uniform draw from all so far (experience replay, MAZE, Kariyappa et al.
    2021, arXiv 2005.03161).

    Raises UsageError for fewer than 2 steps, or 1 batch.
    """

    of: SourceSpec
    steps: int = 10
    batches: int = 100
    name: ClassVar[str] = "replayed"
    wraps: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name, value, least in (("steps", self.steps, 2), ("batches", self.batches, 1)):
            if value < least:
                raise UsageError(f"replayed: {name} must be at least {least}, got {value}")

    def make(self, bench: Workbench, plan: Plan) -> Source:
        own = self.of.make(bench, plan)
        return Replay(own, bench, plan.student, self.batches, bench.seed, self.steps)
