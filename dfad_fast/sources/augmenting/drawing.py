"""Draws random views of the kinds that a setting names."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch

from dfad_fast.errors import UsageError, unknown_name
from dfad_fast.sources.augmenting.views import CUTMIX, MIXTURE, PLAIN, Views

WORDS: Final = ("crop", "cutmix", "flip", "mix", "shift")
_LARGEST_SHIFT: Final = 1 / 8
_SMALLEST_CROP: Final = 0.4


def parse_augment(augment: str) -> frozenset[str]:
    """The words of "flip-shift-cutmix-mix" and the like; "none" has none. Raises UsageError for unknown words."""
    if augment == "none":
        return frozenset()
    words = augment.split("-")
    for word in words:
        if word == "none":
            raise UsageError(
                f"augment {augment!r}: none cannot be combined: leave it out, or the other words"
            )
        if word not in WORDS:
            raise unknown_name("augmentation", word, ("none", *WORDS))
    return frozenset(words)


def draw_views(
    rng: np.random.Generator, count: int, shape: tuple[int, int, int], augment: str, partners: int
) -> Views:
    """Views of ``count`` images [C, H, W] according to ``augment``, each with a partner among ``partners`` images.

    ``shift``: by up to an eighth of each side, at least 1 pixel; on 32 x 32 that is a crop after padding by 4.
    ``crop``: 40 to 100 % of the area, anywhere, enlarged to the full size (as in Inception, Szegedy et al., CVPR 2015,
    but with the image's aspect). ``flip``: half of them left to right. ``cutmix``: a box of the partner with 1 - lam of
    the area, clipped at the border (Yun et al., ICCV 2019, arXiv 1905.04899). ``mix``: lam of the image and 1 - lam of
    the partner (Zhang et al., ICLR 2018, arXiv 1710.09412). lam is drawn from Beta(1, 1), uniform. Plain images and
    these two kinds are equally frequent: a third each if both are set.

    Raises UsageError for an unknown word.
    """
    words = parse_augment(augment)
    _, height, width = shape
    dy, dx, scale = np.zeros(count), np.zeros(count), np.ones(count)
    if "crop" in words:
        scale = np.sqrt(rng.uniform(_SMALLEST_CROP, 1.0, count))
        dy = rng.uniform(0.0, 1.0, count) * (1 - scale) * height
        dx = rng.uniform(0.0, 1.0, count) * (1 - scale) * width
    if "shift" in words:
        dy = dy + _shifts(rng, count, height)
        dx = dx + _shifts(rng, count, width)
    flip = rng.integers(0, 2, count) == 1 if "flip" in words else np.zeros(count, bool)
    kinds = [PLAIN, *[CUTMIX] * ("cutmix" in words), *[MIXTURE] * ("mix" in words)]
    kind, partner, lam, box = np.zeros(count, np.uint8), np.zeros(count, np.int64), np.ones(count), None
    if len(kinds) > 1:
        kind = rng.choice(np.array(kinds, np.uint8), count)
        partner = rng.integers(0, partners, count)
        drawn = rng.uniform(0.0, 1.0, count)
        box = _boxes(rng, drawn, height, width)
        left = 1 - (box[1] - box[0]) * (box[3] - box[2]) / (height * width)
        lam = np.select([kind == CUTMIX, kind == MIXTURE], [left, drawn], 1.0)
        box = np.where(kind == CUTMIX, box, 0)
    return Views(
        dy=torch.from_numpy(dy.astype(np.float32)),
        dx=torch.from_numpy(dx.astype(np.float32)),
        scale=torch.from_numpy(scale.astype(np.float32)),
        flip=torch.from_numpy(flip),
        kind=torch.from_numpy(kind),
        partner=torch.from_numpy(partner),
        lam=torch.from_numpy(lam.astype(np.float32)),
        box=torch.zeros(count, 4, dtype=torch.int32, device="cpu")
        if box is None
        else torch.from_numpy(np.ascontiguousarray(box.T.astype(np.int32))),
    )


def _shifts(rng: np.random.Generator, count: int, side: int) -> np.ndarray:
    most = max(1, round(side * _LARGEST_SHIFT))
    return rng.integers(-most, most + 1, count).astype(np.float64)


def _boxes(rng: np.random.Generator, lam: np.ndarray, height: int, width: int) -> np.ndarray:
    """y0, y1, x0 and x1 [4, n] of boxes around uniform centers, with 1 - lam of the area before clipping."""
    ends = []
    for side in (height, width):
        length = (side * np.sqrt(1 - lam)).astype(np.int64)
        first = rng.integers(0, side, len(lam)) - length // 2
        ends += [first.clip(0, side), (first + length).clip(0, side)]
    return np.stack(ends)
