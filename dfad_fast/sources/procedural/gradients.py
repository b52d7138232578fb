"""Linear and radial gradients between two colors: smooth, in stripes or in steps."""

from __future__ import annotations

import numpy as np

from dfad_fast.sources.procedural.canvas import Canvas, Shape, power_law, some, to_images, uniform
from dfad_fast.sources.procedural.colors import between, palettes


def gradients(rng: np.random.Generator, count: int, shape: Shape) -> np.ndarray:
    """Float32 [N, C, H, W] in [0, 1]."""
    canvas = Canvas(count, shape)
    x, y = canvas.places(rng, 1, count, within=1.5)
    angle = uniform(rng, 0.0, 2 * np.pi, 1, count)
    course = np.square(canvas.along(angle, x, y)[0])
    across = np.square(canvas.along(angle + np.float32(np.pi / 2), x, y)[0])
    # Linear gradients are radial ones stretched to infinity.
    course += across * some(rng, 0.5, uniform(rng, 0.3, 1.0, count), 0.0)
    np.sqrt(course, out=course)
    # A wave with straight flanks, from 0 to 1 and back; for some images as steep as a step.
    course *= power_law(rng, 0.5, 6.0, 2.0, count)
    course -= np.floor(course)
    course -= np.float32(0.5)
    np.abs(course, out=course)
    course -= np.float32(0.25)
    course *= power_law(rng, 2.0, 40.0, 3.0, count)
    course += np.float32(0.5)
    np.clip(course, np.float32(0), np.float32(1), out=course)
    colors = palettes(rng, count, shape[0], 2)
    return between(to_images(course), colors[..., 0], colors[..., 1])
