"""A drawing: the kinds with their shares, and their surround."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from torch import Tensor

from dfad_fast.errors import unknown_name
from dfad_fast.sources.procedural.canvas import Shape
from dfad_fast.sources.procedural.kinds import IN_WORDS, draw

SURROUNDS: dict[str, float | None] = {"none": None, "dark": 0.0, "light": 1.0}
"""The surrounds' levels, from 0 to 1."""


def parse_surround(text: str) -> str:
    """``auto`` or one of SURROUNDS. Raises UsageError for another word."""
    if text != "auto" and text not in SURROUNDS:
        raise unknown_name("surround", text, ["auto", *SURROUNDS])
    return text


@dataclass(frozen=True)
class Drawing:
    """How images are drawn.

    ``shares``: each kind's share, with sum 1; ``surround``: one of SURROUNDS; ``contrast``: the factor on pixels'
    distance from the surround, or from the middle without one; ``chosen``: whether the teacher decided.
    """

    shares: Mapping[str, float]
    surround: str = "none"
    contrast: float = 1.0
    chosen: bool = False

    def draw(self, rng: np.random.Generator, count: int, shape: Shape) -> Tensor:
        """Float32 [count, C, H, W] in [0, 1]."""
        level = SURROUNDS[self.surround]
        images = draw(rng, count, shape, self.shares, level)
        if self.contrast != 1.0:
            middle = 0.5 if level is None else level
            images.sub_(middle).mul_(self.contrast).add_(middle).clamp_(0.0, 1.0)
        return images

    def state_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        """Such as "dead leaves (60 %) and shapes (40 %) on a dark surround"."""
        equal = len({round(share, 2) for share in self.shares.values()}) == 1
        *first, last = (
            IN_WORDS[kind] + ("" if equal else f" ({100 * share:.0f} %)")
            for kind, share in self.shares.items()
        )
        text = f"{', '.join(first)} and {last}" if first else last
        if self.surround != "none":
            text += f" on a {self.surround} surround"
        if self.contrast != 1.0:
            text += f", in {'low' if self.contrast < 1 else 'high'} contrast"
        return text + (" (chosen to fit the teacher)" if self.chosen else "")


def evenly(kinds: tuple[str, ...]) -> dict[str, float]:
    """Equal shares for all kinds."""
    return dict.fromkeys(kinds, 1.0 / len(kinds))
