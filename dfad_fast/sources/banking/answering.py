"""The teacher's answers to images before they are stored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dfad_fast.sources.augmenting import Views, draw_views, parse_augment
from dfad_fast.sources.banking.packing import Packed
from dfad_fast.sources.banking.segments import Places, show
from dfad_fast.sources.banking.view_table import WIDTH, as_table, as_views


@dataclass(frozen=True)
class Answering:
    """``views`` views of each image: the first is the image itself, the others are drawn according to ``augment``.

    ``ask`` returns the teacher's logits [m, classes] for at most ``batch`` images on ``device`` in ``dtype``; they are
    stored in the dtype ``stored_as``. With 0 views it neither runs the teacher nor stores logits.
    """

    ask: Callable[[Tensor], Tensor]
    views: int
    augment: str
    batch: int
    device: torch.device
    dtype: torch.dtype
    stored_as: torch.dtype = torch.float32

    @property
    def mixes(self) -> bool:
        """Whether a view may show a part of another image."""
        return bool({"cutmix", "mix"} & parse_augment(self.augment))

    def draw(self, rng: np.random.Generator, count: int, shape: torch.Size, partners: int) -> Views:
        """Views of ``count`` images of ``shape`` [..., C, H, W]."""
        channels, height, width = shape[-3:]
        return draw_views(rng, count, (channels, height, width), self.augment, partners)

    def answer(self, rng: np.random.Generator, packed: Packed) -> tuple[Tensor, Tensor]:
        """The views of the ``packed`` images as a table [n, views, columns], and the logits [n, views, classes]."""
        count = len(packed)
        if not self.views:
            return torch.zeros(count, 0, WIDTH, device="cpu"), torch.zeros(
                count, 0, 0, dtype=self.stored_as, device=self.device
            )
        further = self.views - 1
        plain = as_table(draw_views(rng, count, _shape(packed), "none", 1)).view(count, 1, WIDTH)
        drawn = (
            as_table(self.draw(rng, count * further, packed.pixels.shape, count)) if further else plain[:, :0]
        )
        table = torch.cat([plain, drawn.view(count, further, WIDTH)], 1)
        logits = self._ask(packed, np.repeat(np.arange(count), self.views), as_views(table.flatten(0, 1)))
        return table, logits.view(count, self.views, -1)

    def labels(self, packed: Packed, logits: Tensor) -> Tensor:
        """The teacher's classes [n] for the unchanged images."""
        if not self.views:
            rows = np.arange(len(packed))
            plain = draw_views(np.random.default_rng(0), len(packed), _shape(packed), "none", 1)
            return self._ask(packed, rows, plain).argmax(1)
        return logits[:, 0].argmax(1)

    def _ask(self, packed: Packed, rows: np.ndarray, views: Views) -> Tensor:
        logits = []
        for first in range(0, len(rows), self.batch):
            part = slice(first, first + self.batch)
            places = Places(np.zeros(len(rows[part]), np.int64), rows[part])
            images = show([packed], places, views.select(part), self.device, self.dtype)
            logits.append(self.ask(images).to(self.stored_as))
        return torch.cat(logits)


def _shape(packed: Packed) -> tuple[int, int, int]:
    channels, height, width = packed.pixels.shape[1:]
    return channels, height, width
