"""Moves, mirrors or crops each image at random before the teacher sees it."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dfad_fast.precision import at_least_float32

_LEAST_CROP = 0.25  # of the area
_LONGEST = 4.0 / 3.0  # width over height, or height over width


def draw_moves(
    rng: np.random.Generator, count: int, side: tuple[int, int], share: float, flip: bool
) -> np.ndarray:
    """Maps [count, 2, 3] that move images of ``side`` (height, width) by whole pixels, up to ``share`` of each side.

    This is a random crop after padding by as many pixels. With ``flip``, half of them are mirrored.
    """
    maps = np.zeros((count, 2, 3), np.float32)
    height, width = side
    for axis, length in enumerate((width, height)):
        most = int(share * length)
        maps[:, axis, axis] = 1.0
        maps[:, axis, 2] = rng.integers(-most, most + 1, count) * (2.0 / length)
    return _mirrored(rng, maps, flip)


def draw_crops(rng: np.random.Generator, count: int, flip: bool) -> np.ndarray:
    """Maps [count, 2, 3] to random crops of a quarter to all of the area, with aspects from 3:4 to 4:3."""
    area = rng.uniform(_LEAST_CROP, 1.0, count)
    form = np.exp(rng.uniform(-np.log(_LONGEST), np.log(_LONGEST), count))
    maps = np.zeros((count, 2, 3), np.float32)
    for axis, squared in enumerate((area * form, area / form)):
        length = np.sqrt(squared).clip(max=1.0)
        maps[:, axis, axis] = length
        maps[:, axis, 2] = rng.uniform(-1.0, 1.0, count) * (1.0 - length)
    return _mirrored(rng, maps, flip)


def _mirrored(rng: np.random.Generator, maps: np.ndarray, flip: bool) -> np.ndarray:
    if flip:
        maps[:, 0, 0] *= np.where(rng.random(len(maps)) < 0.5, -1.0, 1.0)
    return maps


def seen_through(maps: Tensor, images: Tensor, outside: Tensor) -> Tensor:
    """Images [B, C, H, W], each transformed by its map [2, 3], with ``outside`` [C, 1, 1] beyond the border.

    Differentiable, in float32 or wider.
    """
    images = at_least_float32(images)
    outside = outside.to(images)
    with torch.autocast(images.device.type, enabled=False):
        grid = F.affine_grid(maps.to(images), list(images.shape), align_corners=False)
        return F.grid_sample(images - outside, grid, padding_mode="zeros", align_corners=False) + outside
