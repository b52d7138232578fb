"""How a network of a run is called during steps."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from dfad_fast.models.surgery.convolutions import WinogradConvolutions
from dfad_fast.networks.levers import Levers


class Runner:
    """Calls ``network`` as the levers say.

    Compiled, it is used only where no hook has to see its inside; torch.compile chooses its convolutions itself.
    """

    def __init__(self, network: nn.Module, levers: Levers, frozen: bool = False) -> None:
        self._network = network
        self._compiled: Callable[[Tensor], Tensor] | None = None
        if levers.compile:
            self._compiled = torch.compile(network, dynamic=False)
        self._convolutions = WinogradConvolutions(network, frozen) if levers.by_winograd else None

    def convolving(self) -> AbstractContextManager[None]:
        """Around a whole step: a network that checkpoints its activations runs again in backward."""
        return self._convolutions.used() if self._convolutions else nullcontext()

    def __call__(self, x: Tensor, hooked: bool = False) -> Tensor:
        return self._compiled(x) if self._compiled is not None and not hooked else self._network(x)
