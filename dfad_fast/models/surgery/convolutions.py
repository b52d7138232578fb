"""A network's 3x3 convolutions by Winograd's minimal filtering, while somebody wants it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dfad_fast.ops import WinogradWeight, winograd_conv2d, winograd_weight

# Below it the transforms cost more than the multiplications that they save.
_FEWEST_CHANNELS = 32


class WinogradConvolutions:
    """The convolutions of ``network`` that profit: 3x3, stride 1, padding 1, of 32 channels and more.

    Its modules, weights and hooks stay what they are, and nothing is changed outside ``used()``. With ``frozen`` the
    weights are transformed once, when they are first used, and later changes of them are not seen.
    """

    def __init__(self, network: nn.Module, frozen: bool = False) -> None:
        self._frozen = frozen
        self._transformed: dict[tuple[int, int], WinogradWeight] = {}
        # The parameters themselves may be replaced; the modules are what counts.
        self._convolutions = [m for m in network.modules() if _profits(m)]

    def __len__(self) -> int:
        return len(self._convolutions)

    @contextmanager
    def used(self) -> Iterator[None]:
        """Within it the network convolves so."""
        function: Callable[..., Tensor] = self._frozen_forward if self._frozen else _trained_forward
        for convolution in self._convolutions:
            # What nn.Conv2d.forward calls. Into the dictionary, since nn.Module looks at all that is set as usual.
            convolution.__dict__["_conv_forward"] = (
                partial(function, id(convolution)) if self._frozen else function
            )
        try:
            yield
        finally:
            for convolution in self._convolutions:
                convolution.__dict__.pop("_conv_forward", None)  # another network may hold it too

    def _frozen_forward(self, key: int, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if x.dim() != 4:
            return F.conv2d(x, weight, bias, padding=1)
        tile = _tile(x)
        backward = torch.is_grad_enabled() and x.requires_grad
        known = self._transformed.get((key, tile))
        if known is None or (backward and known.adjoint is None):
            known = self._transformed[key, tile] = winograd_weight(weight, tile, adjoint=backward)
        return winograd_conv2d(x, known, bias)


def _trained_forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if x.dim() != 4:
        return F.conv2d(x, weight, bias, padding=1)
    return winograd_conv2d(x, weight, bias, tile=_tile(x))


def _tile(x: Tensor) -> int:
    return 4 if min(x.shape[2:]) > 2 else 2


def _profits(module: nn.Module) -> bool:
    return (
        type(module) is nn.Conv2d
        and "_conv_forward" not in module.__dict__
        and module.kernel_size == (3, 3)
        and module.stride == (1, 1)
        and module.padding in ((1, 1), "same")
        and module.dilation == (1, 1)
        and module.groups == 1
        and module.padding_mode == "zeros"
        and min(module.in_channels, module.out_channels) >= _FEWEST_CHANNELS
    )
