"""Colored noise: images whose power falls with frequency f like ``f ** -a``.

Natural images have an ``a`` of about 2 (Baradad et al. 2021, arXiv 2106.05963).
"""

from __future__ import annotations

import numpy as np

from dfad_fast.sources.procedural.canvas import Shape, uniform

SLOPES = (0.5, 4.0)
"""The smallest and the largest ``a``."""
_IMAGES_PER_FIELD = 8


def colored_fields(rng: np.random.Generator, slopes: np.ndarray, height: int, width: int) -> np.ndarray:
    """Periodic float32 fields [F, height, width] with mean 0 and standard deviation 1.

    The power of each falls with its slope [F].
    """
    size = (len(slopes), height, width // 2 + 1)
    white = rng.standard_normal((*size, 2), np.float32).view(np.complex64)[..., 0]
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)).astype(np.float32)
    frequency[0, 0] = np.inf
    white *= frequency ** (-slopes[:, None, None] / 2)
    fields: np.ndarray = np.fft.irfft2(white, s=(height, width))
    fields /= fields.std(axis=(1, 2), keepdims=True).clip(1e-6)
    return fields


def crops(rng: np.random.Generator, count: int, height: int, width: int) -> np.ndarray:
    """Float32 [N, H, W], cropped at random from a few larger noise fields whose standard deviation is 1."""
    fields = colored_fields(
        rng, uniform(rng, *SLOPES, -(-count // _IMAGES_PER_FIELD)), _larger(height), _larger(width)
    )
    windows = np.lib.stride_tricks.sliding_window_view(fields, (height, width), (1, 2))
    field, top, left = (rng.integers(places, size=count) for places in windows.shape[:3])
    found: np.ndarray = windows[field, top, left]
    return found


def _larger(side: int) -> int:
    """A length at least 1.5 times as large, and fast to transform."""
    return 8 * -(-3 * side // 16)


def noise(rng: np.random.Generator, count: int, shape: Shape) -> np.ndarray:
    """Float32 [N, C, H, W] in [0, 1]: noise around a level, with channels that vary together or independently."""
    channels, height, width = shape
    level = uniform(rng, 0.2, 0.8, count, 1) + uniform(rng, -0.2, 0.2, count, channels)
    contrast = uniform(rng, 0.05, 0.4, count, 1)
    # A mixture of two fields in each channel, in proportions that differ more for some images than for others.
    angle = uniform(rng, -1.0, 1.0, count, channels) * uniform(rng, 0.0, np.pi / 2, count, 1)
    images = crops(rng, count, height, width)[:, None] * _per_channel(contrast * np.cos(angle))
    if channels > 1:
        images += crops(rng, count, height, width)[:, None] * _per_channel(contrast * np.sin(angle))
    images += _per_channel(level)
    return np.clip(images, np.float32(0), np.float32(1), out=images)


def _per_channel(values: np.ndarray) -> np.ndarray:
    return values[:, :, None, None]
