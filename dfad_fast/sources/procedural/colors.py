"""Colors with correlated channels, from gray to colorful, from faint to full contrast."""

from __future__ import annotations

import numpy as np

from dfad_fast.sources.procedural.canvas import uniform


def palettes(rng: np.random.Generator, count: int, channels: int, colors: int) -> np.ndarray:
    """Float32 [N, C, colors] in [0, 1]: colors for each image, with a common saturation and contrast."""
    middle = uniform(rng, 0.3, 0.7, count, 1, 1)
    contrast = uniform(rng, 0.3, 1.2, count, 1, 1)
    found = middle + contrast * uniform(rng, -0.5, 0.5, count, 1, colors)
    if channels > 1:
        colorful = uniform(rng, 0.0, 1.0, count, 1, 1) ** 2
        found = found + colorful * uniform(rng, -0.6, 0.6, count, channels, colors)
    return np.clip(found, np.float32(0), np.float32(1))


def between(course: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """[N, C, H, W]: blends the colors ``first`` [N, C] (``course`` [N, H, W] is 0) into ``second`` (it is 1)."""
    images = course[:, None] * (second - first)[..., None, None]
    images += first[..., None, None]
    return images
