"""The channels of a network: which ones must be chosen together, and which ones each weight belongs to."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

UNKNOWN = 0
"""The channel of a position with an unknown channel or a constant."""


class Classes:
    """Channels by number, joined into classes: those that are added or multiplied with each other."""

    def __init__(self) -> None:
        self._parents = [UNKNOWN]

    def make(self, count: int) -> Tensor:
        """``count`` new channels [count], each in its own class."""
        first = len(self._parents)
        self._parents.extend(range(first, first + count))
        return torch.arange(first, first + count, device="cpu")

    def join(self, some: Tensor, others: Tensor) -> None:
        """Joins each of ``some`` with the one of ``others`` at its position; skips unknown ones."""
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
        """The current class of each of ``channels``, of any shape."""
        some, places = torch.unique(channels, return_inverse=True)
        return torch.tensor(self.of_all(some), device="cpu")[places]

    def of_all(self, channels: Tensor) -> list[int]:
        """The current class of each of ``channels`` [N]."""
        return [self.of(channel) for channel in channels.tolist()]


@dataclass
class Use:
    """The channels of a parameter's or buffer's entries, along some of its dimensions.

    The second dimension of a grouped convolution's weight covers one group; ``channels[1]`` are those of all groups.
    """

    channels: dict[int, Tensor]
    groups: int = 1


@dataclass
class Layer:
    """A module with weights that ran.

    ``kind`` is the operation and, for a convolution, whether it is depthwise or grouped; ``geometry`` is its kernel and
    strides.
    """

    path: str
    kind: tuple[str, ...]
    geometry: tuple[tuple[int, ...], ...] = ()
    uses: dict[str, Use] = field(default_factory=dict)
    """Keyed by the local names of its parameters and buffers."""


Makers = frozenset[tuple[str, int]]
"""The layers that produce channels of a class, and how many each produces."""


@dataclass(frozen=True)
class Map:
    """A network's layers in running order, and its channels.

    ``producers`` maps each class of channels to the number that each layer produces, by the layers' paths; ``shapes``
    holds modules' input and output shapes, without the batch.
    """

    layers: dict[str, Layer]
    classes: Classes
    producers: dict[int, Counter[str]]
    shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]

    def pools(self, matched: dict[str, str]) -> dict[Makers, list[int]]:
        """Groups classes by the layers in ``matched`` that produce them, in the order of their channels.

        The key holds the layers' names from ``matched``. A layer that produces two channels of a class, as attention's
        queries and keys do, makes another key than a layer that produces one.
        """
        pools: dict[Makers, list[int]] = defaultdict(list)
        for name in sorted(self.producers):
            made = self.producers[name].items()
            made_by = frozenset((matched[path], count) for path, count in made if path in matched)
            if made_by:
                pools[made_by].append(name)
        return dict(pools)


def producers_of(classes: Classes, made: Iterable[tuple[str, Tensor]]) -> dict[int, Counter[str]]:
    """For each class, the number of its channels per layer path; ``made`` has each layer's channels."""
    producers: dict[int, Counter[str]] = defaultdict(Counter)
    for path, channels in made:
        for name in classes.of_all(channels):
            producers[name][path] += 1
    return dict(producers)
