"""Leaves the user's networks as they were passed in, except for the student's weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import torch
from torch import Tensor, nn

from dfad_fast.models.reading.check import is_lazy, modes_of, set_modes


@contextmanager
def modes_kept(*networks: nn.Module) -> Iterator[None]:
    """On exit, puts every module back into its former mode, train or eval."""
    modes = [mode for network in networks for mode in modes_of(network)]
    try:
        yield
    finally:
        set_modes(modes)


class Layouts:
    """The memory layout of networks' weights. Steps may change it: they are faster in channels_last.

    Create it before the layout changes and call ``note`` after the change. From then on it can move weights from one
    layout to the other; their values stay bit-equal. It calls ``when_moved`` if the weights are no longer at the
    addresses that the last step used. A lazy weight, which has no shape yet, stays in the layout of steps.
    """

    def __init__(self, *networks: nn.Module) -> None:
        self._given = [
            (module, name, x.stride())
            for network in networks
            for module in network.modules()
            for name, x in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))
            if not is_lazy(x) and x.layout == torch.strided and x.dim() == 4
        ]
        self._own: list[tuple[int, ...]] = []
        self._places: list[int] = []
        self._users = 0
        self.when_moved: Callable[[], None] = lambda: None

    def note(self) -> None:
        """Records the current layout as that of steps."""
        self._given = [entry for entry in self._given if self._tensor(entry).stride() != entry[2]]
        self._own = [self._tensor(entry).stride() for entry in self._given]

    @staticmethod
    def _tensor(entry: tuple[nn.Module, str, tuple[int, ...]]) -> Tensor:
        tensor: Tensor = getattr(entry[0], entry[1])
        return tensor

    def take(self) -> None:
        """Puts the weights into the layout of steps."""
        for entry, strides in zip(self._given, self._own, strict=True):
            _lay_out(self._tensor(entry), strides)
        places = [self._tensor(entry).data_ptr() for entry in self._given]
        if places != self._places:
            self._places = places
            self.when_moved()

    def give_back(self) -> None:
        """Puts the weights back into the layout that the networks were passed in with."""
        for entry in self._given:
            _lay_out(self._tensor(entry), entry[2])

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Inside the block the layout is that of steps; after the outermost block it is the original one."""
        self.take()
        self._users += 1
        try:
            yield
        except BaseException:
            # The first error must stay visible, even if a broken GPU then fails at everything else.
            with suppress(Exception):
                self._leave()
            raise
        self._leave()

    def _leave(self) -> None:
        self._users -= 1
        if not self._users:
            self.give_back()


@torch.inference_mode(False)
@torch.no_grad()
def _lay_out(x: Tensor, strides: tuple[int, ...]) -> None:
    if x.stride() != strides:
        x.data = torch.empty_strided(x.shape, strides, dtype=x.dtype, device=x.device).copy_(x)
