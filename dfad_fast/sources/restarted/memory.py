"""What the teacher's batch norm layers saw in former rounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from dfad_fast.models.reading.batch_norm import LayerStatistics


class StatisticsMemory:
    """A running average of the statistics of each round's last step, which keeps ``share`` of itself.

    What is compared to the data's statistics is then this average, a part of which is the batch at hand: the batches of
    all rounds together are to be like the data, and each may be unlike it (FastDFKD's published code, with 0.9).
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self._kept: list[tuple[Tensor, Tensor]] = []

    def blended(self, layers: Sequence[LayerStatistics]) -> list[LayerStatistics]:
        """``layers`` as a part of the average. In the first round there is none, and they are as they are."""
        if not self._kept:
            return list(layers)
        return [
            replace(
                layer,
                mean=torch.lerp(layer.mean, mean, self._share),
                variance=torch.lerp(layer.variance, variance, self._share),
            )
            for layer, (mean, variance) in zip(layers, self._kept, strict=True)
        ]

    def take(self, layers: Sequence[LayerStatistics]) -> None:
        """Those of a round's last step, already blended."""
        if self._share:
            self._kept = [(layer.mean.detach(), layer.variance.detach()) for layer in layers]

    def state_dict(self) -> list[tuple[Tensor, Tensor]]:
        return list(self._kept)

    def load_state_dict(self, state: Any, device: torch.device) -> None:
        self._kept = [(mean.to(device), variance.to(device)) for mean, variance in state]
