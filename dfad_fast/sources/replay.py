"""Replays old images: a student that follows a changing generator forgets images that it no longer makes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import Tensor

from dfad_fast.distributed import collectives, processes
from dfad_fast.errors import UsageError
from dfad_fast.sources.around import Around
from dfad_fast.sources.source import Batch, Source, Turn, Workbench
from dfad_fast.terms import Weighted

REPLAYED = "rehearsed"
"""The metrics.jsonl key prefix for losses on replayed images; kept for compatibility."""


class Replay(Around):
    """Adds to the batches of ``source`` some of ``capacity`` kept batches.

    This is experience replay as in MAZE (Kariyappa et al. 2021, arXiv 2005.03161), and the memory bank of Binici et al.
    2021 (arXiv 2108.05698). The kept batches are always a uniform draw from the student's batches: from the last one of
    each iteration, or from all with ``steps`` > 1. ``rows`` are the student's terms; each iteration replays ``steps``
    kept batches.

    Raises UsageError for fewer than 1 batch.
    """

    def __init__(
        self,
        source: Source,
        bench: Workbench,
        rows: tuple[Weighted, ...],
        capacity: int,
        seed: int = 0,
        steps: int = 1,
    ) -> None:
        if capacity < 1:
            raise UsageError(f"replay must be at least 0 batches, got {capacity}")
        super().__init__(source)
        self._bench = bench
        self._rows = rows
        self._capacity = capacity
        self._steps = steps
        self._kept: list[Tensor] = []
        self._met = 0
        self._rng = np.random.default_rng([seed, 1])

    @property
    def student_steps(self) -> int:
        return self._source.student_steps + self._steps

    @property
    def unchanging(self) -> list[Tensor]:
        return [*super().unchanging, *self._kept]

    def batches(self, turn: Turn) -> Iterator[Batch]:
        batch = None
        for batch in self._source.batches(turn):
            yield batch
            if self._steps > 1:
                self._take(batch.images)
        if batch is None:
            return
        if self._steps == 1:
            self._take(batch.images)
        for _ in range(self._steps):
            chosen = self._kept[int(self._rng.integers(len(self._kept)))]
            yield self._bench.see(chosen, self._rows, REPLAYED)

    def _take(self, images: Tensor) -> None:
        """Records the images of the latest student step."""
        self._met += 1
        if len(self._kept) < self._capacity:
            self._kept.append(images.clone())  # it may be a view of a larger tensor
        elif (place := int(self._rng.integers(self._met))) < self._capacity:
            self._kept[place] = images.clone()

    def state_dict(self) -> dict[str, Any]:
        own = {"kept": list(self._kept), "met": self._met, "rng": self._rng.bit_generator.state}
        return {**super().state_dict(), **own}

    def state_of_all(self) -> dict[str, Any]:
        return {**super().state_of_all(), "kept": [collectives.gather_at_first(x) for x in self._kept]}

    def own_part(self, state: dict[str, Any]) -> dict[str, Any]:
        state = super().own_part(state)
        if processes.count() > 1:
            # Copies, because a view would keep the whole tensor in memory.
            kept = [images[processes.own_rows(len(images))].clone() for images in state["kept"]]
            return {**state, "kept": kept}
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._kept = [images.to(self._bench.device) for images in state["kept"]]
        self._met = state["met"]
        self._rng.bit_generator.state = state["rng"]
