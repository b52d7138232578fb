"""How often each of many images is shown."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from dfad_fast.errors import UsageError


def refuse_repeats(source: str, repeats: float) -> None:
    """Raises UsageError for a number that :class:`Choice` cannot take."""
    if not 1 <= repeats < math.inf:
        raise UsageError(f"{source}: repeats must be a finite number of at least 1, got {repeats:g}")


class Choice:
    """Draws images so that all of their classes are equally frequent, within limits.

    ``classes`` int64 [N] are the images' classes. No image is drawn more than ``repeats`` >= 1 times as often as in a
    uniform draw; 1 draws uniformly.
    """

    def __init__(self, classes: Tensor, repeats: float) -> None:
        counts = torch.bincount(classes).double()
        shares = _shares(repeats * counts / len(classes))
        self.shares: Tensor = (shares / counts)[classes]
        """The probability of each image, float64 [N] with sum 1."""
        self._ends = self.shares.cumsum(0).numpy()

    def draw(self, rng: np.random.Generator, count: int) -> Tensor:
        """The indices of the drawn images, int64 [count]."""
        places = np.searchsorted(self._ends, rng.random(count), side="right")
        return torch.from_numpy(places.clip(max=len(self._ends) - 1))


def _shares(most: Tensor) -> Tensor:
    """The classes' shares with sum 1: equal, but none above its limit in ``most``. The limits' sum is at least 1."""
    full = most == 0
    while True:
        alike = (1 - most[full].sum()) / (~full).sum()
        further = ~full & (most < alike)
        if not further.any() or (full | further).all():
            return torch.where(full, most, alike)
        full |= further
