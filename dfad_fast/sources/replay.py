"""Old images shown again: a student that follows a changing generator forgets what that no longer makes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import Tensor, nn

from dfad_fast.distributed import collectives, processes
from dfad_fast.errors import UsageError
from dfad_fast.models.reading.check import device_of
from dfad_fast.sources.source import Batch, Source, Turn, Workbench
from dfad_fast.terms import Weighted

REPLAYED = "rehearsed"
"""What losses on such images are recorded under: a key of metrics.jsonl, which keeps its name."""


class Replay(Source):
    """What ``source`` hands out, and one of ``capacity`` kept batches (experience replay as in MAZE, Kariyappa et al.
    2021, arXiv 2005.03161; a memory bank in Binici et al. 2021, arXiv 2108.05698).

    The kept batches are at any time a uniform draw from all that the student learned from, the last one of each
    iteration. ``rows`` are the student's terms.

    Raises UsageError for fewer than 1 batch.
    """

    # Which batch is shown is drawn on the host in each iteration.
    can_be_captured = False

    def __init__(
        self, source: Source, bench: Workbench, rows: tuple[Weighted, ...], capacity: int, seed: int = 0
    ) -> None:
        if capacity < 1:
            raise UsageError(f"replay must be at least 0 batches, got {capacity}")
        self._source = source
        self._bench = bench
        self._rows = rows
        self._capacity = capacity
        self._device = device_of(bench.prober.trio.generator)
        self._kept: list[Tensor] = []
        self._met = 0
        self._rng = np.random.default_rng([seed, 1])

    @property
    def student_steps(self) -> int:
        return self._source.student_steps + 1

    @property
    def generated_batches(self) -> int:
        return self._source.generated_batches

    @property
    def networks(self) -> list[nn.Module]:
        return self._source.networks

    @property
    def unchanging(self) -> list[Tensor]:
        return [*self._source.unchanging, *self._kept]

    def draw(self, rng: np.random.Generator) -> list[list[tuple[np.ndarray, ...]]]:
        return self._source.draw(rng)

    def batches(self, turn: Turn) -> Iterator[Batch]:
        for batch in self._source.batches(turn):
            yield batch
        self._take(batch.images)
        chosen = self._kept[int(self._rng.integers(len(self._kept)))]
        yield self._bench.see(chosen, self._rows, REPLAYED)

    def _take(self, images: Tensor) -> None:
        """Notes the images of the iteration's last student's step, as the last of all so far."""
        self._met += 1
        if len(self._kept) < self._capacity:
            self._kept.append(images.clone())  # it may be a part of a larger tensor
        elif (place := int(self._rng.integers(self._met))) < self._capacity:
            self._kept[place] = images.clone()

    def follow(self, iteration: int) -> None:
        self._source.follow(iteration)

    def state_dict(self) -> dict[str, Any]:
        return {
            "kept": list(self._kept),
            "met": self._met,
            "rng": self._rng.bit_generator.state,
            "source": self._source.state_dict(),
        }

    def state_of_all(self) -> dict[str, Any]:
        kept = [collectives.gather_at_first(images) for images in self._kept]
        return {**self.state_dict(), "kept": kept, "source": self._source.state_of_all()}

    def own_part(self, state: dict[str, Any]) -> dict[str, Any]:
        kept = state["kept"]
        if processes.count() > 1:
            # Copies: nothing else would free the whole that they are parts of.
            kept = [images[processes.own_rows(len(images))].clone() for images in kept]
        return {**state, "kept": kept, "source": self._source.own_part(state["source"])}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._kept = [images.to(self._device) for images in state["kept"]]
        self._met = state["met"]
        self._rng.bit_generator.state = state["rng"]
        self._source.load_state_dict(state["source"])
