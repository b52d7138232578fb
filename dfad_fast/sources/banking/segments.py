"""Segments: images that are written once, with their views and the teacher's answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dfad_fast.sources.augmenting import Views, apply_views
from dfad_fast.sources.augmenting.views import PLAIN
from dfad_fast.sources.banking.packing import Packed
from dfad_fast.sources.banking.view_table import as_views


@dataclass(frozen=True)
class Segment:
    """``packed`` images [n, ...], each with A views and the teacher's ``logits`` [n, A, classes] for them.

    ``views`` is a table [n, A, columns] on the CPU in which partners are rows of the same segment. View 0 is the image
    as it is. Nothing writes to a segment: a run's snapshot need not copy it, and its file is written once.
    """

    number: int
    packed: Packed
    views: Tensor
    logits: Tensor

    def __len__(self) -> int:
        return len(self.packed)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Its tensors, by name."""
        packed = self.packed
        return {
            "pixels": packed.pixels,
            "low": packed.low,
            "step": packed.step,
            "views": self.views,
            "logits": self.logits,
        }

    @staticmethod
    def of(number: int, tensors: Mapping[str, Tensor]) -> Segment:
        """The segment with these :attr:`tensors`."""
        packed = Packed(tensors["pixels"], tensors["low"], tensors["step"])
        return Segment(number, packed, tensors["views"], tensors["logits"])


class Places:
    """Rows of several segments, in any order: ``segment`` [n], an index in their list, and ``row`` [n] in it."""

    def __init__(self, segment: np.ndarray, row: np.ndarray) -> None:
        self.segment = segment
        self.row = row
        order = np.argsort(segment, kind="stable")
        self._back = torch.from_numpy(np.argsort(order, kind="stable"))
        found, first = np.unique(segment[order], return_index=True)
        parts = np.split(row[order], first[1:]) if len(found) else []
        self._parts = list(zip(found.tolist(), map(torch.from_numpy, parts), strict=True))

    def __len__(self) -> int:
        return len(self.row)

    def __getitem__(self, rows: slice | np.ndarray) -> Places:
        return Places(self.segment[rows], self.row[rows])

    def take(self, tensor_of: Callable[[int], Tensor]) -> Tensor:
        """The rows [n, ...] from each segment's tensor."""
        parts = []
        for index, rows in self._parts:
            tensor = tensor_of(index)
            parts.append(tensor.index_select(0, rows.to(tensor.device)))
        whole = parts[0] if len(parts) == 1 else torch.cat(parts)
        return whole.index_select(0, self._back.to(whole.device))


def show(
    segments: Sequence[Packed], places: Places, views: Views, device: torch.device, dtype: torch.dtype
) -> Tensor:
    """The ``views`` [n, C, H, W] of the n images at ``places``, whose partners are rows of the same segments."""
    images = _images(segments, places, device, dtype)
    partners = images
    if bool((views.kind != PLAIN).any()):
        partners = _images(segments, Places(places.segment, views.partner.numpy()), device, dtype)
    shown = apply_views(images, partners, views)
    return shown.contiguous(memory_format=torch.channels_last)


def _images(segments: Sequence[Packed], places: Places, device: torch.device, dtype: torch.dtype) -> Tensor:
    parts = (
        places.take(lambda index: segments[index].pixels),
        places.take(lambda index: segments[index].low),
        places.take(lambda index: segments[index].step),
    )
    return Packed(*(part.to(device, non_blocking=True) for part in parts)).images(dtype)


def pick(segments: Sequence[Segment], places: Places, view: np.ndarray) -> tuple[Views, Tensor]:
    """The views with index ``view`` [n] of the images at ``places``, and the teacher's logits [n, classes] for them."""
    count = segments[0].views.shape[1]
    of_views = Places(places.segment, places.row * count + view)
    table = of_views.take(lambda index: segments[index].views.flatten(0, 1))
    return as_views(table), of_views.take(lambda index: segments[index].logits.flatten(0, 1))
