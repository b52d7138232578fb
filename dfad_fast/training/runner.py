"""How a network of a run is called during steps."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from dfad_fast.models.convolutions import WinogradConvolutions
from dfad_fast.training.levers import Levers


class Runner:
    """Calls ``network`` as the levers say.

    Compiled, it is used only where no hook has to see its inside; torch.compile chooses its convolutions itself.
    """

    def __init__(self, network: nn.Module, levers: Levers, frozen: bool) -> None:
        self._network = network
        self._compiled: Callable[[Tensor], Tensor] | None = None
        if levers.compile:
            self._compiled = torch.compile(network, dynamic=False)
        by_winograd = levers.winograd and levers.autocast is None
        self._convolutions = WinogradConvolutions(network, frozen) if by_winograd else None

    def __call__(self, x: Tensor, hooked: bool = False) -> Tensor:
        if self._compiled is not None and not hooked:
            return self._compiled(x)
        if not self._convolutions:
            return self._network(x)
        with self._convolutions.used():
            return self._network(x)
