"""The kinds of drawings, and images of several of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from dfad_fast.errors import UsageError, unknown_name
from dfad_fast.sources.procedural.canvas import Shape
from dfad_fast.sources.procedural.gradients import gradients
from dfad_fast.sources.procedural.leaves import leaves
from dfad_fast.sources.procedural.noise import noise
from dfad_fast.sources.procedural.shapes import shapes
from dfad_fast.sources.procedural.surround import surrounded

KINDS: dict[str, Callable[[np.random.Generator, int, Shape], np.ndarray]] = {
    "leaves": leaves,
    "noise": noise,
    "shapes": shapes,
    "gradients": gradients,
}
"""A new kind is a file and a line here. It draws ``count`` images, float32 [N, C, H, W] in [0, 1]."""

IN_WORDS = {
    "leaves": "dead leaves",
    "noise": "colored noise",
    "shapes": "shapes",
    "gradients": "gradients",
}


def parse_kinds(text: str) -> tuple[str, ...]:
    """Parses ``all``, or names of kinds joined by underscores. Raises UsageError for an unknown or repeated name."""
    if text == "all":
        return tuple(KINDS)
    names = tuple(text.split("_"))
    for name in names:
        if name not in KINDS:
            raise unknown_name("kind of drawing", name, ["all", *KINDS])
    if len(set(names)) < len(names):
        raise UsageError(f"kinds repeats a name, got {text!r}: name each kind of drawing once")
    return names


def draw(
    rng: np.random.Generator, count: int, shape: Shape, shares: Mapping[str, float], surround: float | None
) -> Tensor:
    """Images of all kinds, each with its share, in any order: float32 [count, C, H, W] in [0, 1].

    They have a surround of the level ``surround``, if any.
    """
    parts = []
    for kind, own in _counts(rng, count, shares).items():
        if surround is not None and kind == "shapes":
            parts.append(shapes(rng, own, shape, surround))
        elif surround is not None:
            parts.append(surrounded(rng, KINDS[kind](rng, own, shape), surround))
        else:
            parts.append(KINDS[kind](rng, own, shape))
    return torch.from_numpy(np.concatenate(parts)[rng.permutation(count)])


def _counts(rng: np.random.Generator, count: int, shares: Mapping[str, float]) -> dict[str, int]:
    """Whole numbers with the sum ``count``: the kinds' shares, randomly rounded so that the mean is right.

    With few images some kinds get none and are left out.
    """
    ends = np.floor(np.cumsum(list(shares.values())) * count + rng.random()).astype(int)
    ends[-1] = count
    own = np.diff(ends, prepend=0)
    return {kind: int(n) for kind, n in zip(shares, own, strict=True) if n}
