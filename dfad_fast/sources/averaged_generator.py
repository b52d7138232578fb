"""A moving average of the generator, which still makes what the generator itself no longer does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dfad_fast.models.surgery.average import MovingAverage
from dfad_fast.sources.replay import REPLAYED
from dfad_fast.sources.source import Batch, Source, Turn, Workbench
from dfad_fast.terms import Weighted


class AveragedGenerator(Source):
    """What ``source`` hands out, and a batch that the generator's moving average makes, with ``decay`` per iteration
    (the momentum generator of MAD, Do et al. 2022, arXiv 2209.10359).

    ``rows`` are the student's terms. Raises UsageError for a decay that is not in [0, 1).
    """

    # The average follows the generator outside of the iteration.
    can_be_captured = False

    def __init__(self, source: Source, bench: Workbench, rows: tuple[Weighted, ...], decay: float) -> None:
        self._source = source
        self._bench = bench
        self._rows = rows
        trio = bench.prober.trio
        self._average = MovingAverage(trio.generator, decay, "generator_ema")
        trio.synchronize(self._average.network)

    @property
    def student_steps(self) -> int:
        return self._source.student_steps + 1

    @property
    def generated_batches(self) -> int:
        return self._source.generated_batches + 1

    @property
    def networks(self) -> list[nn.Module]:
        return [*self._source.networks, self._average.network]

    @property
    def unchanging(self) -> list[Tensor]:
        return self._source.unchanging

    def draw(self, rng: np.random.Generator) -> list[list[tuple[np.ndarray, ...]]]:
        return self._source.draw(rng)

    def batches(self, turn: Turn) -> Iterator[Batch]:
        yield from self._source.batches(turn)
        noise = self._bench.noise(self._bench.own_batch_size)
        with torch.no_grad():
            images = self._bench.prober.generate(noise, by=self._average.network.train())
        yield self._bench.see(images, self._rows, REPLAYED)

    def follow(self, iteration: int) -> None:
        self._source.follow(iteration)
        self._average.update(self._bench.prober.trio.generator, iteration)

    def state_dict(self) -> dict[str, Any]:
        average = self._average.network.state_dict()
        return {
            "average": {key: value.detach() for key, value in average.items()},
            "source": self._source.state_dict(),
        }

    def state_of_all(self) -> dict[str, Any]:
        return {**self.state_dict(), "source": self._source.state_of_all()}

    def own_part(self, state: dict[str, Any]) -> dict[str, Any]:
        return {**state, "source": self._source.own_part(state["source"])}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._average.network.load_state_dict(state["average"])
        self._source.load_state_dict(state["source"])
