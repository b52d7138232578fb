"""Shapes: a few figures and strokes on a plain ground, as in drawings, letters and pictures of single objects."""

from __future__ import annotations

import numpy as np

from dfad_fast.sources.procedural.canvas import Canvas, Shape, some, to_images, uniform
from dfad_fast.sources.procedural.colors import between, palettes
from dfad_fast.sources.procedural.figures import WHOLE, Figures, coverage

FIGURES = 4
"""The most figures in an image."""


def shapes(rng: np.random.Generator, count: int, shape: Shape, ground: float | None = None) -> np.ndarray:
    """Images of figures, float32 [N, C, H, W] in [0, 1].

    The first half shows separate figures in different colors, the second strokes of one pen. ``ground`` is the level of
    every image's ground; without it each ground has its own color.
    """
    loose = (count + 1) // 2
    colors = palettes(rng, count, shape[0], FIGURES + 1)
    if ground is not None:
        colors[:, :, 0] = ground
    return np.concatenate([_loose(rng, colors[:loose], shape), _strokes(rng, colors[loose:], shape)])


def _loose(rng: np.random.Generator, colors: np.ndarray, shape: Shape) -> np.ndarray:
    """Boxes, discs, rings and arcs anywhere, with ``colors`` [N, C, 1 + FIGURES]."""
    canvas = Canvas(len(colors), shape)
    size = (FIGURES, canvas.count)
    x, y = canvas.places(rng, *size, within=0.7)
    longest = uniform(rng, 0.0, 0.3, *size)
    figures = Figures(
        x=x,
        y=y,
        angle=uniform(rng, 0.0, np.pi, *size),
        a=longest,
        b=longest * uniform(rng, 0.0, 1.0, *size),
        radius=uniform(rng, 0.1, 0.4, *size) ** 2,
        rim=some(rng, 0.4, uniform(rng, 0.05, 0.15, *size), WHOLE),
        cut=some(rng, 0.3, uniform(rng, -0.4, 0.4, *size), WHOLE),
        cut_angle=uniform(rng, 0.0, 2 * np.pi, *size),
    )
    first, *others = _coverages(rng, canvas, figures)
    images = between(first, colors[..., 0], colors[..., 1])
    for index, alpha in enumerate(others):
        images += alpha[:, None] * (colors[..., index + 2, None, None] - images)
    return images


def _strokes(rng: np.random.Generator, colors: np.ndarray, shape: Shape) -> np.ndarray:
    """Strokes that each start at the end of the previous one."""
    canvas = Canvas(len(colors), shape)
    size = (FIGURES, canvas.count)
    x, y = canvas.places(rng, FIGURES + 1, canvas.count, within=0.75)
    over, down = np.diff(x, axis=0), np.diff(y, axis=0)
    strokes = Figures(
        x=x[:-1] + over / 2,
        y=y[:-1] + down / 2,
        angle=np.arctan2(down, over),
        a=np.hypot(over, down) / 2,
        b=np.zeros(size, np.float32),
        radius=np.broadcast_to(uniform(rng, 0.025, 0.1, canvas.count), size),
    )
    drawn = np.maximum.reduce(_coverages(rng, canvas, strokes))
    return between(drawn, colors[..., 0], colors[..., 1])


def _coverages(rng: np.random.Generator, canvas: Canvas, figures: Figures) -> list[np.ndarray]:
    """For each figure [N, H, W]: the covered fraction of each pixel.

    The number of figures varies; it is at least one.
    """
    softness = uniform(rng, 0.5, 2.0, canvas.count)
    shown = rng.integers(1, FIGURES + 1, size=canvas.count)
    found = []
    for index, distance in enumerate(figures.distances(canvas)):
        alpha = coverage(distance, canvas.pixel, softness)
        alpha *= index < shown
        found.append(to_images(alpha))
    return found
