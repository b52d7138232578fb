"""A network's 3x3 convolutions by Winograd's minimal filtering, while somebody wants it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from dfad_fast.ops import WinogradWeight, narrow_conv2d, winograd_conv2d, winograd_weight
from dfad_fast.private_torch import has_own_convolution

# With fewer, the transforms cost more than the multiplications that they save.
_FEWEST_CHANNELS = 8
# With fewer, the transforms are done while a tile is in registers, and no weights are transformed ahead.
_WIDE = 32


class WinogradConvolutions:
    """The convolutions of ``network`` that profit: 3x3, stride 1, padding 1, of 8 channels and more.

    Its modules, weights and hooks stay what they are, and nothing is changed outside ``used()``. With ``frozen`` the
    weights of 32 channels and more are transformed once, when they are first used: later changes of them are not seen.
    """

    def __init__(self, network: nn.Module, frozen: bool = False) -> None:
        self._frozen = frozen
        self._transformed: dict[tuple[int, int], WinogradWeight] = {}
        # The parameters themselves may be replaced; the modules are what counts.
        self._convolutions: list[Any] = [m for m in network.modules() if _profits(m)]

    def __len__(self) -> int:
        return len(self._convolutions)

    @contextmanager
    def used(self) -> Iterator[None]:
        """Within it the network convolves so."""
        function = self._frozen_forward if self._frozen else _trained_forward
        for convolution in self._convolutions:
            # Into the dictionary, since nn.Module looks at all that is set as usual.
            convolution.__dict__["forward"] = partial(function, convolution)
        try:
            yield
        finally:
            for convolution in self._convolutions:
                convolution.__dict__.pop("forward", None)  # another network may hold it too

    # Their argument has the name that a convolution's has, by which some networks call it.
    def _frozen_forward(self, convolution: nn.Conv2d, input: Tensor) -> Tensor:
        if input.dim() != 4 or _is_narrow(convolution):
            return _trained_forward(convolution, input)
        key = id(convolution), _tile(input)
        backward = torch.is_grad_enabled() and input.requires_grad
        known = self._transformed.get(key)
        if known is None or (backward and known.adjoint is None):
            known = self._transformed[key] = winograd_weight(convolution.weight, key[1], adjoint=backward)
        return winograd_conv2d(input, known, convolution.bias)


def _trained_forward(convolution: nn.Conv2d, input: Tensor) -> Tensor:
    if input.dim() != 4:
        return nn.Conv2d.forward(convolution, input)
    if _is_narrow(convolution):
        return narrow_conv2d(input, convolution.weight, convolution.bias, tile=4 if _tile(input) == 4 else 0)
    return winograd_conv2d(input, convolution.weight, convolution.bias, tile=_tile(input))


def _is_narrow(convolution: nn.Conv2d) -> bool:
    return min(convolution.in_channels, convolution.out_channels) < _WIDE


def _tile(x: Tensor) -> int:
    return 4 if min(x.shape[2:]) > 2 else 2


def _profits(module: nn.Module) -> bool:
    return (
        type(module) is nn.Conv2d
        and not has_own_convolution(module)
        and module.kernel_size == (3, 3)
        and module.stride == (1, 1)
        and module.padding in ((1, 1), "same")
        and module.dilation == (1, 1)
        and module.groups == 1
        and module.padding_mode == "zeros"
        and min(module.in_channels, module.out_channels) >= _FEWEST_CHANNELS
    )
