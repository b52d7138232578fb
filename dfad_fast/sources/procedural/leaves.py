"""Dead leaves: discs, rectangles and triangles of many sizes that cover parts of those below.

A model of occlusion in natural images with power-law sizes (Lee, Mumford and Huang 2001); networks also learn from such
images (Baradad et al. 2021, arXiv 2106.05963). Leaves have textures of colored noise with different strengths.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dfad_fast.sources.procedural.canvas import Canvas, Shape, power_law, to_images, uniform
from dfad_fast.sources.procedural.colors import palettes
from dfad_fast.sources.procedural.noise import crops

_OF_EACH_FORM = 6
LEAVES = 3 * _OF_EACH_FORM
"""The number of leaves in an image, above a leaf that fills it."""
_SIZES = (0.05, 0.6)
_EXPONENT = 1.8
_TURN = np.float32(2 * np.pi / 3)


def _discs(rng: np.random.Generator, canvas: Canvas) -> Iterator[np.ndarray]:
    x, y, size = _laid(rng, canvas)
    ramps = canvas.squared_distance(x, y, less=size * size)
    return (ramps[leaf] for leaf in range(len(x)))


def _rectangles(rng: np.random.Generator, canvas: Canvas) -> Iterator[np.ndarray]:
    x, y, size = _laid(rng, canvas)
    angle = uniform(rng, 0.0, np.pi, *x.shape)
    along = canvas.along(angle, x, y)
    across = canvas.along(angle + np.float32(np.pi / 2), x, y)
    thin = size * uniform(rng, 0.15, 1.0, *x.shape)
    for leaf in range(len(x)):
        length, width = np.abs(along[leaf]), np.abs(across[leaf])
        length -= size[leaf]
        width -= thin[leaf]
        yield np.maximum(length, width, out=length)


def _triangles(rng: np.random.Generator, canvas: Canvas) -> Iterator[np.ndarray]:
    x, y, size = _laid(rng, canvas)
    angle = uniform(rng, 0.0, 2 * np.pi, *x.shape)
    sides = [
        canvas.along(angle + side * _TURN + uniform(rng, -0.4, 0.4, *x.shape), x, y, start=size / 2)
        for side in range(3)
    ]
    for leaf in range(len(x)):
        outside = np.maximum(sides[0][leaf], sides[1][leaf])
        yield np.maximum(outside, sides[2][leaf], out=outside)


def _laid(rng: np.random.Generator, canvas: Canvas) -> tuple[np.ndarray, ...]:
    """Positions and sizes of the leaves of one form, each [leaves, N]."""
    size = (_OF_EACH_FORM, canvas.count)
    return *canvas.places(rng, *size, within=1.1), power_law(rng, *_SIZES, _EXPONENT, *size)


def on_top(rng: np.random.Generator, count: int, shape: Shape) -> np.ndarray:
    """Integers [N, H, W]: the number of the top leaf at each pixel, 0 if there is none."""
    canvas = Canvas(count, shape)
    top = np.zeros((*shape[1:], count), np.uint8)
    forms = [form(rng, canvas) for form in (_discs, _rectangles, _triangles)]
    for leaf in range(LEAVES):
        inside = (next(forms[leaf % len(forms)]) < 0).view(np.uint8)
        inside *= np.uint8(leaf + 1)
        np.maximum(top, inside, out=top)
    return to_images(top).astype(np.intp)


def leaves(rng: np.random.Generator, count: int, shape: Shape) -> np.ndarray:
    """Float32 [N, C, H, W] in [0, 1]."""
    channels, height, width = shape
    # The offset of each image's colors among those of all images.
    seen = on_top(rng, count, shape) + (LEAVES + 1) * np.arange(count)[:, None, None]
    strengths = uniform(rng, 0.0, 0.6, count * (LEAVES + 1)) ** 3
    texture = crops(rng, count, height, width)
    texture *= strengths.take(seen)
    colors = palettes(rng, count, channels, LEAVES + 1)
    images = np.empty((count, *shape), np.float32)
    for channel in range(channels):
        np.add(colors[:, channel].take(seen), texture, out=images[:, channel])
    return np.clip(images, np.float32(0), np.float32(1), out=images)
