"""Reads a bank's images from a run's state, without the run and one segment at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dfad_fast.sources.banking.keeping import Roll
from dfad_fast.sources.banking.segments import Segment


@dataclass(frozen=True)
class KeptImages:
    """The counting images of all banks in the state of a run's source.

    ``read`` returns tensors from the run's storage by name.
    """

    state: Mapping[str, Any]
    read: Callable[[str], dict[str, Tensor]]

    def __len__(self) -> int:
        return sum(len(rows) for _, rows in self._segments())

    def parts(self, chosen: np.ndarray) -> Iterator[tuple[Tensor, Tensor | None]]:
        """The images at the ascending indices ``chosen`` in parts, with the teacher's logits for them.

        A part is images [n, C, H, W] in float32 and logits [n, classes] for the images as they are, without changes by
        a view; None if the bank has no logits.
        """
        first = 0
        for kept, rows in self._segments():
            here = chosen[(chosen >= first) & (chosen < first + len(rows))] - first
            first += len(rows)
            if len(here):
                segment = Segment.of(kept["number"], kept["tensors"] or self.read(kept["name"]))
                own = torch.from_numpy(rows[here])
                images = segment.packed.select(own).images(torch.float32)
                yield images, segment.logits[own, 0].float() if segment.logits.shape[1] else None

    def _segments(self) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
        """Each segment's state and its counting rows."""
        for bank in _banks_in(self.state):
            for kept, roll in zip(bank["segments"], bank["rolls"], strict=True):
                yield kept, Roll.of(roll).living


def _banks_in(state: Any) -> Iterator[Mapping[str, Any]]:
    """The banks' states, at any depth of sources."""
    if isinstance(state, Mapping):
        if "rolls" in state:
            yield state
        else:
            for value in state.values():
                yield from _banks_in(value)
    elif isinstance(state, list):
        for value in state:
            yield from _banks_in(value)
