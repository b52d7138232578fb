"""How a step of model inversion shows its images to the teacher."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Jitter:
    """A roll by ``down`` and ``right`` pixels, and a mirroring or none, for a whole batch.

    What leaves on one side comes back on the other (DeepInversion, Yin et al. 2020, arXiv 1912.08795, published code).
    """

    down: int
    right: int
    mirrored: bool

    def __call__(self, images: Tensor) -> Tensor:
        """Images [B, C, H, W] of the same shape. Differentiable."""
        rolled = torch.roll(images, (self.down, self.right), (2, 3))
        return rolled.flip(3) if self.mirrored else rolled


def draw_jitter(rng: np.random.Generator, side: tuple[int, int], share: float, flip: bool) -> Jitter:
    """Draws a roll by whole pixels, up to ``share`` of each ``side`` (height, width).

    With ``flip`` it is mirrored half of the time.
    """
    most = [int(share * length) for length in side]
    down, right = (int(rng.integers(-pixels, pixels + 1)) for pixels in most)
    return Jitter(down, right, flip and bool(rng.random() < 0.5))
