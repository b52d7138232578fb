"""The teacher's batch norm statistics from earlier rounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from dfad_fast.models.reading.batch_norm import LayerStatistics


class StatisticsMemory:
    """A running average over rounds of the last step's statistics; each update keeps ``share`` of the average.

    Terms then compare this average, which includes the current batch, with the data's statistics: all rounds' batches
    together must match the data, but each may differ (FastDFKD's published code, with 0.9).
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self._kept: list[tuple[Tensor, Tensor]] = []

    def blended(self, layers: Sequence[LayerStatistics]) -> list[LayerStatistics]:
        """``layers`` blended into the average; unchanged in the first round, which has no average."""
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
        """Stores the statistics of a round's last step, already blended."""
        if self._share:
            self._kept = [(layer.mean.detach(), layer.variance.detach()) for layer in layers]

    def state_dict(self) -> list[tuple[Tensor, Tensor]]:
        return list(self._kept)

    def load_state_dict(self, state: Any, device: torch.device) -> None:
        self._kept = [(mean.to(device), variance.to(device)) for mean, variance in state]
