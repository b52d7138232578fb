"""Companions of tensors: the channel of each position."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dfad_fast.models.starting.channels import UNKNOWN, Classes, Use


class Companions:
    """The companions of one forward pass's tensors. It keeps all tensors alive, so that their ids stay unique."""

    def __init__(self, classes: Classes) -> None:
        self._classes = classes
        self._of: dict[int, Tensor] = {}
        self._tensors: dict[int, Tensor] = {}

    def get(self, tensor: Tensor) -> Tensor | None:
        """The companion of ``tensor``, None if it has none."""
        return self._of.get(id(tensor))

    def set(self, tensor: Tensor, channels: Tensor, dim: int) -> None:
        """Gives ``tensor`` the ``channels`` along ``dim``, the same at all positions of the other dimensions."""
        shape = [1] * tensor.dim()
        shape[dim] = len(channels)
        self.keep_all(tensor, [channels.view(shape).expand(tensor.shape)])

    def keep_all(self, result: Any, companions: Sequence[Tensor | None]) -> None:
        """Sets the companions of a result's tensors, in order."""
        tensors = result if isinstance(result, (tuple, list)) else [result]
        for tensor, companion in zip(tensors, companions, strict=False):
            if isinstance(tensor, Tensor) and companion is not None and companion.shape == tensor.shape:
                self._of[id(tensor)] = companion
                self._tensors[id(tensor)] = tensor

    def along(self, tensor: Tensor, dim: int) -> Tensor:
        """The channels of ``tensor`` along ``dim`` [size]; unknown where they differ across the other dimensions."""
        companion = self.get(tensor)
        if companion is None:
            return torch.full((tensor.shape[dim],), UNKNOWN, device="cpu")
        return constant_along(companion, dim)

    def met(self, tensors: Sequence[Tensor], result: Tensor) -> Tensor | None:
        """The companion of a ``result`` computed from ``tensors``, whose channels it joins; None if unknown."""
        known = [(x, own) for x in tensors if (own := self.get(x)) is not None]
        fitting = [own.expand(result.shape) for x, own in known if _spreads(x.shape, result.shape)]
        if not fitting:
            # Over windows: a map of another size with the same channels.
            fitting = [
                constant_along(own, 1).view(1, -1, *[1] * (result.dim() - 2)).expand(result.shape)
                for x, own in known[:1]
                if x.dim() == result.dim() > 2 and x.shape[:2] == result.shape[:2]
            ]
        if not fitting:
            return None
        companion = fitting[0]
        for other in fitting[1:]:
            some, others = compact(companion, other)
            self._classes.join(some, others)
            if bool((some == UNKNOWN).any()):
                # Positions of one channel then have both names.
                some = self._classes.named(torch.where(some == UNKNOWN, others, some))
            companion = some.expand(result.shape)
        return companion

    def join_summed(self, x: Tensor, y: Tensor, transposed: Tensor | None = None) -> None:
        """Joins the channels of two factors that their product sums over together.

        These are the last dimension of ``x`` and the second-to-last of ``y``. ``transposed`` is the companion of ``y``
        with its last two dimensions swapped, if ``y`` has none.
        """
        own = self.get(x)
        other = transposed.transpose(-1, -2) if transposed is not None else self.get(y)
        if own is not None and other is not None:
            some, others = own.amax(-2), other.amax(-1)
            if some.shape == others.shape:
                self._classes.join(some, others)

    def columns(self, y: Tensor, shape: torch.Size) -> Tensor | None:
        """The companion of a product ``x @ y``, which has the columns of ``y``."""
        own = self.get(y)
        if own is None:
            return None
        highest = own.amax(-2, keepdim=True)
        alike = ((own == highest) | (own == UNKNOWN)).all(-2, keepdim=True)
        highest = torch.where(alike, highest, UNKNOWN)
        return highest.expand(shape) if _spreads(highest.shape, shape) else None


def constant_along(companion: Tensor, dim: int) -> Tensor:
    """The channels along ``dim`` [size], unknown where they differ across the other dimensions.

    Unknown ones equal any channel.
    """
    (companion,) = compact(companion)
    rows = companion.movedim(dim, 0).reshape(companion.shape[dim], -1)
    if rows.shape[1] == 0:
        return torch.full((len(rows),), UNKNOWN, device="cpu")
    highest = rows.amax(1)
    alike = ((rows == highest[:, None]) | (rows == UNKNOWN)).all(1)
    return torch.where(alike, highest, UNKNOWN)


def use_of(tensor: Tensor, companion: Tensor, shape: torch.Size) -> Use | None:
    """The channels of a parameter of ``shape`` whose view ``tensor`` is broadcast over ``companion``'s positions.

    None if it is not broadcast or has no channel dimension.
    """
    missing = companion.dim() - tensor.dim()
    if missing < 0 or tensor.dim() == 0:
        return None
    own = companion[(0,) * missing]
    for dim, size in enumerate(tensor.shape):
        if size == 1:
            own = own.narrow(dim, 0, 1)
    if own.shape != tensor.shape:
        return None
    channels = {
        dim: found
        for dim, size in enumerate(tensor.shape)
        if size > 1 and bool(((found := constant_along(own, dim)) != UNKNOWN).any())
    }
    if len(channels) != 1:
        return None
    if tensor.shape == shape:
        return Use(channels)
    # A view of a vector with additional dimensions of size 1.
    (found,) = channels.values()
    wide = [dim for dim, size in enumerate(shape) if size > 1]
    return Use({wide[0]: found}) if len(wide) == 1 and shape[wide[0]] == len(found) else None


def compact(*companions: Tensor) -> tuple[Tensor, ...]:
    """The same companions, of equal shape, reduced to one position along every dimension in which all only repeat."""
    for dim in range(companions[0].dim()):
        if companions[0].shape[dim] > 1 and all(companion.stride(dim) == 0 for companion in companions):
            companions = tuple(companion.narrow(dim, 0, 1) for companion in companions)
    return companions


def _spreads(shape: Sequence[int], over: Sequence[int]) -> bool:
    """Whether a tensor of ``shape`` broadcasts to ``over``."""
    pairs = zip(reversed(shape), reversed(over), strict=False)
    return len(shape) <= len(over) and all(own in (1, other) for own, other in pairs)
