"""The user's networks are left as they were handed in, but for the student's weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from dfad_fast.models.reading.check import is_lazy, modes_of, set_modes


@contextmanager
def modes_kept(*networks: nn.Module) -> Iterator[None]:
    """After it every module is in the mode, train or eval, that it was in before."""
    modes = [mode for network in networks for mode in modes_of(network)]
    try:
        yield
    finally:
        set_modes(modes)


class Layouts:
    """The memory layout of networks' weights, which steps may have otherwise: they are quicker in channels_last.

    Made before the layout is changed; ``note`` follows the change. From then on weights can be put from one layout
    into the other. Their values are the same to the bit.
    """

    def __init__(self, *networks: nn.Module) -> None:
        self._given = [
            (x, x.stride())
            for network in networks
            for x in (*network.parameters(), *network.buffers())
            if not is_lazy(x) and x.dim() == 4
        ]
        self._changed: list[tuple[Tensor, tuple[int, ...], tuple[int, ...]]] = []
        self.are_given = True

    def note(self) -> None:
        """The layout at hand is that of steps."""
        self._changed = [(x, given, x.stride()) for x, given in self._given if x.stride() != given]
        self._given = []
        self.are_given = not self._changed

    def give_back(self) -> bool:
        """Into the layout that the networks were handed in with; returns whether weights were moved for that."""
        if self.are_given:
            return False
        for x, given, _ in self._changed:
            _lay_out(x, given)
        self.are_given = True
        return True

    def take(self) -> bool:
        """Into the layout of steps; returns whether weights were moved for that."""
        if not self.are_given or not self._changed:
            return False
        for x, _, own in self._changed:
            _lay_out(x, own)
        self.are_given = False
        return True


@torch.no_grad()
def _lay_out(x: Tensor, strides: tuple[int, ...]) -> None:
    laid_out = torch.empty_strided(x.shape, strides, dtype=x.dtype, device=x.device)
    x.data = laid_out.copy_(x)
