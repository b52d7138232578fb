"""A surround: images that show one object in the middle and a constant level around it, as in many data sets."""

from __future__ import annotations

import numpy as np

from dfad_fast.sources.procedural.canvas import Canvas, Shape, some, to_images, uniform
from dfad_fast.sources.procedural.figures import Figures, coverage

_PARTS = 2


def silhouettes(rng: np.random.Generator, count: int, shape: Shape) -> np.ndarray:
    """Float32 [N, H, W] in [0, 1]: 1 inside an object of a few round or square parts near the middle, 0 around it."""
    canvas = Canvas(count, shape)
    width, height = canvas.extent
    size = (_PARTS, count)
    x, y = canvas.places(rng, *size, within=0.25)
    round_ = rng.random(size, np.float32) < 0.3
    parts = Figures(
        x=x,
        y=y,
        angle=some(rng, 0.5, uniform(rng, 0.0, np.pi, *size), 0.0),
        a=np.where(round_, np.float32(0), uniform(rng, 0.05, 0.32 * width, *size)),
        b=np.where(round_, np.float32(0), uniform(rng, 0.05, 0.32 * height, *size)),
        radius=uniform(rng, 0.0, 0.15, *size) + np.float32(0.2) * round_,
    )
    thing = coverage(np.minimum.reduce(parts.distances(canvas)), canvas.pixel, uniform(rng, 0.5, 2.0, count))
    return to_images(thing)


def surrounded(rng: np.random.Generator, images: np.ndarray, level: float) -> np.ndarray:
    """``images`` [N, C, H, W] in [0, 1] seen through silhouettes, with ``level`` around them. Overwrites ``images``."""
    count, channels, height, width = images.shape
    images -= np.float32(level)
    images *= silhouettes(rng, count, (channels, height, width))[:, None]
    images += np.float32(level)
    return images
