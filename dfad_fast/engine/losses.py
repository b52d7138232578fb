"""A run's losses, kept on the device until they are needed, so that no step waits for them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class NotFinite:
    """The first loss that was NaN or infinite."""

    name: str
    iteration: int


class Losses:
    """Collects the losses of every step and now and then copies them to the host in one transfer."""

    def __init__(self) -> None:
        self._steps: list[tuple[int, list[str], Tensor]] = []

    @property
    def empty(self) -> bool:
        """Whether no step has been added since the last :meth:`take`."""
        return not self._steps

    def add(self, iteration: int, losses: dict[str, Tensor]) -> None:
        """The losses of one step in ``iteration``."""
        values = torch.stack([loss.detach().float() for loss in losses.values()])
        self._steps.append((iteration, list(losses), values))

    def take(self) -> tuple[dict[str, float], NotFinite | None]:
        """The mean of each loss since the last call, and the first that was not finite."""
        if not self._steps:
            return {}, None
        values = iter(torch.cat([step[2] for step in self._steps]).tolist())
        by_name: dict[str, list[float]] = {}
        bad = None
        for iteration, names, _ in self._steps:
            for name in names:
                value = next(values)
                by_name.setdefault(name, []).append(value)
                if bad is None and not math.isfinite(value):
                    bad = NotFinite(name, iteration)
        self._steps.clear()
        return {name: sum(column) / len(column) for name, column in by_name.items()}, bad
