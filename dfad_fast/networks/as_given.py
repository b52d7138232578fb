"""The user's networks are left as they were handed in, but for the student's weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

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
    into the other, and ``when_moved`` is called. Their values are the same to the bit.
    """

    def __init__(self, *networks: nn.Module) -> None:
        self._given = [
            (x, x.stride())
            for network in networks
            for x in (*network.parameters(), *network.buffers())
            if not is_lazy(x) and x.dim() == 4
        ]
        self._changed: list[tuple[Tensor, tuple[int, ...], tuple[int, ...]]] = []
        self._are_given = True
        self._users = 0
        self.when_moved: Callable[[], None] = lambda: None

    def note(self) -> None:
        """The layout at hand is that of steps."""
        self._changed = [(x, given, x.stride()) for x, given in self._given if x.stride() != given]
        self._given = []
        self._are_given = not self._changed

    def take(self) -> None:
        """Into the layout of steps."""
        if self._are_given and self._changed:
            self._move([(x, own) for x, _, own in self._changed])
            self._are_given = False

    def give_back(self) -> None:
        """Into the layout that the networks were handed in with."""
        if not self._are_given:
            self._move([(x, given) for x, given, _ in self._changed])
            self._are_given = True

    @torch.no_grad()
    def _move(self, laid_out: list[tuple[Tensor, tuple[int, ...]]]) -> None:
        for x, strides in laid_out:
            x.data = torch.empty_strided(x.shape, strides, dtype=x.dtype, device=x.device).copy_(x)
        self.when_moved()

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Within it the layout is that of steps, and after the outermost such block the one that was handed in."""
        self.take()
        self._users += 1
        try:
            yield
        except BaseException:
            # The error is the one to be seen, on a GPU that fails at everything from then on, too.
            with suppress(Exception):
                self._leave()
            raise
        self._leave()

    def _leave(self) -> None:
        self._users -= 1
        if not self._users:
            self.give_back()
