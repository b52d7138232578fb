"""A moving average of the generator, which still makes images that the generator no longer makes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from dfad_fast.models.surgery.average import MovingAverage
from dfad_fast.sources.around import Around
from dfad_fast.sources.replay import REPLAYED
from dfad_fast.sources.source import Batch, Source, Turn, Workbench
from dfad_fast.terms import Weighted


class AveragedGenerator(Around):
    """Adds to the batches of ``source`` one from the generator's moving average, with ``decay`` per iteration.

    The momentum generator of MAD (Do et al. 2022, arXiv 2209.10359). ``rows`` are the student's terms.

    Raises UsageError for a decay that is not in [0, 1).
    """

    def __init__(self, source: Source, bench: Workbench, rows: tuple[Weighted, ...], decay: float) -> None:
        super().__init__(source)
        self._bench = bench
        self._rows = rows
        trio = bench.prober.trio
        self._average = MovingAverage(trio.generator, decay, "generator_ema")
        trio.synchronize(self._average.network)

    @property
    def generated_images(self) -> int:
        return super().generated_images + self._bench.batch_size

    @property
    def networks(self) -> list[nn.Module]:
        return [*super().networks, self._average.network]

    def batches(self, turn: Turn) -> Iterator[Batch]:
        waits = True
        for batch in self._source.batches(turn):
            waits = False
            yield batch
        if waits:  # like the student, while a bank fills
            return
        noise = self._bench.draw_noise()
        turn.generated += self._bench.batch_size
        with torch.no_grad():
            images = self._bench.prober.generate(noise, by=self._average.network.train())
        yield self._bench.see(images, self._rows, REPLAYED)

    def follow(self, iteration: int) -> None:
        super().follow(iteration)
        self._average.update(self._bench.prober.trio.generator, iteration)

    def state_dict(self) -> dict[str, Any]:
        average = self._average.network.state_dict()
        return {**super().state_dict(), "average": {key: value.detach() for key, value in average.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._average.network.load_state_dict(state["average"])
