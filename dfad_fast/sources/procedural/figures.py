"""Figures with soft edges (bars, discs, boxes, outlines and arcs), drawn by each pixel's distance from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dfad_fast.sources.procedural.canvas import Canvas

WHOLE = np.float32(8.0)
"""The values of ``rim`` and ``cut`` for complete figures."""
_QUARTER = np.float32(np.pi / 2)


@dataclass(frozen=True)
class Figures:
    """K figures per image, each field a float32 array [K, N].

    A box around (x, y), rotated by ``angle``, with half lengths ``a`` along and ``b`` across, widened and rounded by
    ``radius``: a disc if both are 0, a stroke if only ``b`` is. ``rim`` keeps only a rim of this thickness; ``cut``
    removes everything in the direction ``cut_angle`` beyond this fraction of its size.
    """

    x: np.ndarray
    y: np.ndarray
    angle: np.ndarray
    a: np.ndarray
    b: np.ndarray
    radius: np.ndarray
    rim: np.ndarray | None = None
    cut: np.ndarray | None = None
    cut_angle: np.ndarray | None = None

    def distances(self, canvas: Canvas) -> list[np.ndarray]:
        """[H, W, N] for each of the K figures: each pixel's distance from its image's figure, negative inside."""
        along = canvas.along(self.angle, self.x, self.y)
        across = canvas.along(self.angle + _QUARTER, self.x, self.y)
        found = []
        for index in range(len(self.x)):
            distance = _beyond(along[index], across[index], self.a[index], self.b[index])
            distance -= self.radius[index]
            found.append(distance)
        if self.rim is not None:
            for distance, half in zip(found, self.rim / 2, strict=True):
                distance += half
                np.abs(distance, out=distance)
                distance -= half
        if self.cut is not None and self.cut_angle is not None:
            size = self.cut * (self.a + self.b + self.radius)
            edges = canvas.along(self.cut_angle, self.x, self.y, size)
            for index, distance in enumerate(found):
                np.maximum(distance, edges[index], out=distance)
        return found


def _beyond(along: np.ndarray, across: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The distance from a box with half lengths ``a`` and ``b``, negative inside. Overwrites its arguments."""
    for ramp, length in ((along, a), (across, b)):
        np.abs(ramp, out=ramp)
        ramp -= length
    inside = np.minimum(np.maximum(along, across), np.float32(0))
    for ramp in (along, across):
        np.maximum(ramp, np.float32(0), out=ramp)
        np.square(ramp, out=ramp)
    along += across
    np.sqrt(along, out=along)
    along += inside
    return along


def coverage(distance: np.ndarray, pixel: float, softness: np.ndarray) -> np.ndarray:
    """The fraction of each pixel that a figure covers, in [0, 1]; its edge is ``softness`` [N] pixels wide.

    Overwrites ``distance`` [H, W, N].
    """
    distance *= np.float32(-1.0 / pixel) / softness
    distance += np.float32(0.5)
    return np.clip(distance, np.float32(0), np.float32(1), out=distance)
