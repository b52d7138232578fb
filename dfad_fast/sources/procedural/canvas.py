"""Shared by all drawings: the pixel coordinates of many images, and lines through all images at once.

A batch's pixels are [H, W, N], with the images innermost: operations on one figure per image then run along contiguous
memory, whatever the image size. Lengths are in units of the image's shorter side; the origin is the image's center.
NumPy computes everything except sums, so the result is bit-equal for any number of threads.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

Shape = tuple[int, int, int]
"""(C, H, W) of an image."""


def uniform(rng: np.random.Generator, low: float, high: float, *shape: int) -> np.ndarray:
    """Float32 numbers in [low, high)."""
    numbers = rng.random(shape, np.float32)
    numbers *= np.float32(high - low)
    numbers += np.float32(low)
    return numbers


def power_law(rng: np.random.Generator, low: float, high: float, exponent: float, *shape: int) -> np.ndarray:
    """Float32 numbers in [low, high) with a density like ``x ** -exponent``, ``exponent`` not 1."""
    power = 1.0 - exponent
    return uniform(rng, low**power, high**power, *shape) ** np.float32(1.0 / power)


def some(rng: np.random.Generator, share: float, these: np.ndarray, others: np.ndarray | float) -> np.ndarray:
    """Float32: ``these`` for about ``share`` of all entries, ``others`` for the rest."""
    return np.where(rng.random(these.shape, np.float32) < share, these, others).astype(np.float32)


@dataclass(frozen=True)
class Ramps:
    """Pixels' distances from lines, split by column, ``over`` [..., 1, W, N], and by row, ``down`` [..., H, 1, N]."""

    over: np.ndarray
    down: np.ndarray

    def __getitem__(self, index: int) -> np.ndarray:
        """[H, W, N]: the distances from the lines with that index."""
        # torch is faster here.
        pixels: np.ndarray = torch.add(*map(torch.from_numpy, (self.down[index], self.over[index]))).numpy()
        return pixels


@dataclass(frozen=True)
class Canvas:
    """The pixel coordinates of ``count`` images of ``shape`` (C, H, W)."""

    count: int
    shape: Shape

    @property
    def extent(self) -> tuple[float, float]:
        """Width and height; the shorter one is 1."""
        return self.shape[2] * self.pixel, self.shape[1] * self.pixel

    @property
    def pixel(self) -> float:
        """The side of a pixel; the shorter side of the image is 1."""
        return 1.0 / min(self.shape[1:])

    def places(
        self, rng: np.random.Generator, *shape: int, within: float = 1.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """The x and y of uniform points in the central part of the image, with sides scaled by ``within``."""
        width, height = (within * side / 2 for side in self.extent)
        return uniform(rng, -width, width, *shape), uniform(rng, -height, height, *shape)

    def axes(self) -> tuple[np.ndarray, np.ndarray]:
        """The x [1, W, 1] and y [H, 1, 1] of the pixels."""
        _, height, width = self.shape
        over, down = (
            ((np.arange(pixels) - (pixels - 1) / 2) * self.pixel).astype(np.float32)
            for pixels in (width, height)
        )
        return over[:, None], down[:, None, None]

    def along(
        self, angle: np.ndarray, x: np.ndarray, y: np.ndarray, start: np.ndarray | float = 0.0
    ) -> Ramps:
        """Each pixel's distance along the direction ``angle``, in radians, from the point ``start`` beyond (x, y).

        All arguments are [K, N].
        """
        over, down = self.axes()
        cos, sin = np.cos(angle), np.sin(angle)
        offset = x * cos + y * sin + start
        return Ramps(over * cos[:, None, None], down * sin[:, None, None] - offset[:, None, None])

    def squared_distance(self, x: np.ndarray, y: np.ndarray, less: np.ndarray) -> Ramps:
        """Each pixel's squared distance from the point (x, y), minus ``less``; all arguments are [K, N]."""
        over, down = self.axes()
        return Ramps((over - x[:, None, None]) ** 2, (down - y[:, None, None]) ** 2 - less[:, None, None])


def to_images(pixels: np.ndarray) -> np.ndarray:
    """Rearranges [H, W, N] to [N, H, W]."""
    height, width, count = pixels.shape
    return np.ascontiguousarray(pixels.reshape(height * width, count).T).reshape(count, height, width)
