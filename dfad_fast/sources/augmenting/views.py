"""How images are shown: numbers that can be stored beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Final

import torch
from torch import Tensor

PLAIN: Final = 0
CUTMIX: Final = 1
MIXTURE: Final = 2


@dataclass(frozen=True)
class Views:
    """Views of ``n`` images, on the CPU. Each mixes the image with its partner, then moves the result.

    ``dy``, ``dx`` and ``scale`` float32 [n]: pixel (y, x) of the view shows the position ``((y + 0.5) * scale - 0.5 +
    dy, (x + 0.5) * scale - 0.5 + dx)``. With scale 1 and whole numbers this is a shift. ``flip`` bool [n]: then
    mirrored left to right. ``kind`` uint8 [n]: ``PLAIN``, ``CUTMIX`` or ``MIXTURE``. ``partner`` int64 [n]: the other
    image's index in its set. ``lam`` float32 [n]: the share of the image itself, from 0 to 1; 1 if it is plain. ``box``
    int32 [n, 4]: y0, y1, x0, x1 of the partner's box in CutMix, ends excluded; zeros otherwise.
    """

    dy: Tensor
    dx: Tensor
    scale: Tensor
    flip: Tensor
    kind: Tensor
    partner: Tensor
    lam: Tensor
    box: Tensor

    def __len__(self) -> int:
        return len(self.kind)

    def select(self, rows: Tensor | slice) -> Views:
        """The views of some of the images, by index (int64) or slice."""
        return Views(**{name: values[rows] for name, values in self.state_dict().items()})

    @staticmethod
    def cat(parts: Sequence[Views]) -> Views:
        """Concatenates several."""
        states = [part.state_dict() for part in parts]
        return Views(**{name: torch.cat([state[name] for state in states]) for name in states[0]})

    def state_dict(self) -> dict[str, Tensor]:
        """The tensors by name, for a checkpoint; ``Views(**state)`` restores them."""
        return {own.name: getattr(self, own.name) for own in fields(self)}
