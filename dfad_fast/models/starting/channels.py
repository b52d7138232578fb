"""The channels of a network: which ones have to be chosen alike, and which ones each weight belongs to."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

UNKNOWN = 0
"""The channel of a position that no channel was followed to, or that holds a constant."""


class Classes:
    """Channels by number, joined into classes: those that are added or multiplied with each other."""

    def __init__(self) -> None:
        self._parents = [UNKNOWN]

    def make(self, count: int) -> Tensor:
        """So many new channels [count], each a class of its own."""
        first = len(self._parents)
        self._parents.extend(range(first, first + count))
        return torch.arange(first, first + count, device="cpu")

    def join(self, some: Tensor, others: Tensor) -> None:
        """Joins each of ``some`` with the one of ``others`` at its position; unknown ones are passed over."""
        differ = (some != others) & (some != UNKNOWN) & (others != UNKNOWN)
        if not bool(differ.any()):
            return
        pairs = torch.stack((some[differ], others[differ]))
        for a, b in torch.unique(pairs, dim=1).T.tolist():
            first, second = sorted((self.of(a), self.of(b)))
            self._parents[second] = first

    def of(self, channel: int) -> int:
        """The class of ``channel``, named after its first one."""
        while self._parents[channel] != channel:
            self._parents[channel] = channel = self._parents[self._parents[channel]]
        return channel

    def named(self, channels: Tensor) -> Tensor:
        """``channels``, of any shape, each by the name of its class as it is now."""
        some, places = torch.unique(channels, return_inverse=True)
        return torch.tensor(self.of_all(some), device="cpu")[places]

    def of_all(self, channels: Tensor) -> list[int]:
        return [self.of(channel) for channel in channels.tolist()]


@dataclass
class Use:
    """Which channels the entries of a parameter or buffer belong to: for some of its dimensions, one each.

    The second dimension of a grouped convolution's weight is that of a group; ``channels[1]`` are those of all groups.
    """

    channels: dict[int, Tensor]
    groups: int = 1


@dataclass
class Layer:
    """A module with weights that ran. ``kind`` is the operation, and of a convolution whether it is depthwise or
    grouped; ``geometry`` its kernel and strides."""

    path: str
    kind: tuple[str, ...]
    geometry: tuple[tuple[int, ...], ...] = ()
    uses: dict[str, Use] = field(default_factory=dict)
    """By the local names of its parameters and buffers."""


Makers = frozenset[tuple[str, int]]
"""Layers that make channels of a class, and how many of them each makes."""


@dataclass(frozen=True)
class Map:
    """A network's layers in the order in which they ran, and what its channels are.

    ``producers`` has, for each class of channels, how many of them each layer makes, by the layers' paths; ``shapes``
    what modules took and gave, without the batch.
    """

    layers: dict[str, Layer]
    classes: Classes
    producers: dict[int, Counter[str]]
    shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]

    def pools(self, matched: dict[str, str]) -> dict[Makers, list[int]]:
        """Classes that come of the same ones of the layers that ``matched`` names, in the order of their channels; the
        key has the layers' names there. A layer that makes two channels of a class, such as what attention's queries
        and keys meet in, makes other classes than one that makes one."""
        pools: dict[Makers, list[int]] = defaultdict(list)
        for name in sorted(self.producers):
            made = self.producers[name].items()
            made_by = frozenset((matched[path], count) for path, count in made if path in matched)
            if made_by:
                pools[made_by].append(name)
        return dict(pools)


def producers_of(classes: Classes, made: Iterable[tuple[str, Tensor]]) -> dict[int, Counter[str]]:
    """For each class, how many of its channels each layer made, by its path; ``made`` has each layer's channels."""
    producers: dict[int, Counter[str]] = defaultdict(Counter)
    for path, channels in made:
        for name in classes.of_all(channels):
            producers[name][path] += 1
    return dict(producers)
