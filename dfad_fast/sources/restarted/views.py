"""How synthesis shows its images to the teacher: moved, mirrored, or cropped, each in its own way."""

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

    That is a random crop of the images with a border of as many pixels. Half of them are mirrored where ``flip``.
    """
    maps = np.zeros((count, 2, 3), np.float32)
    height, width = side
    for axis, length in enumerate((width, height)):
        most = int(share * length)
        maps[:, axis, axis] = 1.0
        maps[:, axis, 2] = rng.integers(-most, most + 1, count) * (2.0 / length)
    return _mirrored(rng, maps, flip)


def draw_crops(rng: np.random.Generator, count: int, flip: bool) -> np.ndarray:
    """Maps [count, 2, 3] to crops of a quarter of the area to all of it, up to 4:3 or 3:4, at random places."""
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
    """Images [B, C, H, W], each as its map [2, 3] shows it; beyond the border is ``outside`` [C, 1, 1]. Differentiable,
    in float32 or wider."""
    images = at_least_float32(images)
    outside = outside.to(images)
    with torch.autocast(images.device.type, enabled=False):
        grid = F.affine_grid(maps.to(images), list(images.shape), align_corners=False)
        return F.grid_sample(images - outside, grid, padding_mode="zeros", align_corners=False) + outside
