"""Which images stay if there are too many."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

KEEPING = ("age", "random", "balanced", "hardest")


@dataclass
class Roll:
    """Data about a segment's images, one entry each.

    ``alive``: whether the image still counts. ``key``: a number drawn once in [0, 1). ``label``: the teacher's class,
    or -1. ``difficulty``: how far the student's logits were from the teacher's when it last saw the image; infinite
    before.
    """

    alive: np.ndarray
    key: np.ndarray
    label: np.ndarray
    difficulty: np.ndarray

    def __len__(self) -> int:
        return len(self.alive)

    @property
    def living(self) -> np.ndarray:
        """The rows that count."""
        return np.flatnonzero(self.alive)

    def select(self, rows: np.ndarray) -> Roll:
        """The entries of some of the images, by index."""
        return Roll(*(getattr(self, own.name)[rows] for own in fields(self)))

    @staticmethod
    def cat(parts: list[Roll]) -> Roll:
        """Concatenates several."""
        return Roll(*(np.concatenate([getattr(part, own.name) for part in parts]) for own in fields(Roll)))

    def state_dict(self) -> dict[str, Tensor]:
        """Copies, for a checkpoint."""
        return {own.name: torch.from_numpy(getattr(self, own.name).copy()) for own in fields(self)}

    @staticmethod
    def of(state: dict[str, Tensor]) -> Roll:
        """The roll that :meth:`state_dict` described."""
        return Roll(**{name: value.numpy().copy() for name, value in state.items()})


def ranks(keep: str, roll: Roll) -> np.ndarray:
    """The rank of each image under ``keep``: the lowest ranks go first.

    ``random``: by key, so that the remaining images are always a uniform draw from all images so far. ``balanced``:
    from the largest of the teacher's classes, by key within it. ``hardest``: the easiest go first; images that the
    student has not seen yet go last.
    """
    if keep == "balanced":
        return -_places_within_classes(roll)
    worth = roll.difficulty if keep == "hardest" else roll.key
    return np.argsort(np.lexsort((roll.key, worth)))


def _places_within_classes(roll: Roll) -> np.ndarray:
    """Each image's position in its class, the largest key first.

    Positions beyond the smallest class's size are surplus. Among equal positions the smaller key ranks larger.
    """
    order = np.lexsort((-roll.key, roll.label))
    labels = roll.label[order]
    first = np.searchsorted(labels, labels, side="left")
    place = np.empty(len(roll))
    place[order] = np.arange(len(roll)) - first
    return place + (1 - roll.key) / 2
