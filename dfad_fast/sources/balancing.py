"""Which of many images are shown how often."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


class Choice:
    """Draws images of the classes ``classes`` int64 [N], each class as often as the others, but no image more than
    ``repeats`` >= 1 times as often as if all were drawn alike; 1 draws them alike."""

    def __init__(self, classes: Tensor, repeats: float) -> None:
        counts = torch.bincount(classes).double()
        shares = _shares(repeats * counts / len(classes))
        self.shares: Tensor = (shares / counts)[classes]
        """How often each is drawn, float64 [N] with the sum 1."""
        self._ends = self.shares.cumsum(0).numpy()

    def draw(self, rng: np.random.Generator, count: int) -> Tensor:
        """Their places, int64 [count]."""
        places = np.searchsorted(self._ends, rng.random(count), side="right")
        return torch.from_numpy(places.clip(max=len(self._ends) - 1))


def _shares(most: Tensor) -> Tensor:
    """The classes' shares, together 1: all alike, but for those of which there may be ``most`` and no more. These are
    together at least 1."""
    full = most == 0
    while True:
        alike = (1 - most[full].sum()) / (~full).sum()
        further = ~full & (most < alike)
        if not further.any() or (full | further).all():
            return torch.where(full, most, alike)
        full |= further
