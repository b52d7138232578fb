"""A network's convolutions by this package's kernels where they are quicker than torch's, while somebody wants it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dfad_fast.ops import WinogradWeight, narrow_conv2d, winograd_conv2d, winograd_weight
from dfad_fast.private_torch import has_own_convolution

Algorithm = Literal["torch", "winograd", "tiled", "direct"]
"""torch's own convolution; :func:`dfad_fast.ops.winograd_conv2d`; :func:`dfad_fast.ops.narrow_conv2d` by tiles, which
is Winograd's filtering too, and directly."""

# Where these numbers draw the line: see benchmarks/results/convolutions. They are a rule, and no measurement at the
# start of a run, so that the same run gives the same numbers again.
_FEWEST_CHANNELS = 8  # with fewer, a tile's transforms cost more than the multiplications that they save
_NARROW = 32  # up to here tiles are best transformed while they are in registers
_NARROW_ON_MANY_PIXELS = 64
_MANY_PIXELS = 256
_FEWEST_PIXELS = 3  # along a side: with fewer, most of a tile is padding
_FEW_PRODUCTS = 32  # per pixel and tap
_MOST_OUT_OF_FEW = 64


# Kernel and stride.
_KINDS = (((3, 3), (1, 1)), ((3, 3), (2, 2)), ((1, 1), (2, 2)))


class QuickConvolutions:
    """The convolutions of ``network`` that the package's kernels compute more quickly than torch does.

    With ``winograd``, 3x3 convolutions of stride 1 and 8 channels and more; with ``direct``, 3x3 and 1x1 ones of few
    channels; what computes which depends on channels, pixels and gradients alone. Modules, weights and hooks stay what
    they are, and nothing is changed outside ``used()``. With ``frozen`` the weights for winograd_conv2d are transformed
    once, when they are first used: later changes of them are not seen.
    """

    def __init__(
        self, network: nn.Module, frozen: bool = False, *, winograd: bool = True, direct: bool = True
    ) -> None:
        self._wanted = {"winograd": winograd, "tiled": winograd, "direct": direct, "torch": False}
        self._transformed: dict[nn.Module, WinogradWeight] | None = {} if frozen else None
        # The parameters themselves may be replaced; the modules are what counts.
        self._convolutions: list[Any] = [m for m in network.modules() if _is_plain(m)]
        self._taken: dict[nn.Module, set[Algorithm]] = {}

    def __str__(self) -> str:
        counts = Counter(" and ".join(sorted(taken)) for taken in self._taken.values())
        return ", ".join(f"{n} {names}" for names, n in counts.items())

    @contextmanager
    def used(self) -> Iterator[None]:
        """Within it the network convolves so."""
        for convolution in self._convolutions:
            # Into the dictionary, since nn.Module looks at all that is set as usual.
            convolution.__dict__["forward"] = partial(self._forward, convolution)
        try:
            yield
        finally:
            for convolution in self._convolutions:
                convolution.__dict__.pop("forward", None)  # another network may hold it too

    # Its argument has the name that a convolution's has, by which some networks call it.
    def _forward(self, convolution: nn.Conv2d, input: Tensor) -> Tensor:
        backward = torch.is_grad_enabled() and input.requires_grad
        algorithm: Algorithm = "torch"
        if input.dim() == 4:
            algorithm = quickest(convolution, input.shape[2], input.shape[3], backward)
        if not self._wanted[algorithm]:
            algorithm = "torch"
        self._taken.setdefault(convolution, set()).add(algorithm)
        if algorithm == "torch":
            return nn.Conv2d.forward(convolution, input)
        weight, bias = convolution.weight, convolution.bias
        if algorithm == "winograd":
            filters = weight if self._transformed is None else self._frozen_weight(convolution, backward)
            return winograd_conv2d(input, filters, bias)
        tile = 4 if algorithm == "tiled" else 0
        return narrow_conv2d(input, weight, bias, stride=convolution.stride[0], tile=tile)

    def _frozen_weight(self, convolution: nn.Conv2d, backward: bool) -> WinogradWeight:
        assert self._transformed is not None
        known = self._transformed.get(convolution)
        if known is None or (backward and known.adjoint is None):
            known = self._transformed[convolution] = winograd_weight(convolution.weight, adjoint=backward)
        return known


def quickest(convolution: nn.Conv2d, height: int, width: int, backward: bool) -> Algorithm:
    """What computes most quickly, of convolutions that the kernels can, this one of images of this size.

    ``backward``: the images' gradient is wanted.
    """
    few, many = sorted((convolution.in_channels, convolution.out_channels))
    if convolution.stride == (1, 1) and convolution.kernel_size == (3, 3):
        if few < _FEWEST_CHANNELS:
            direct = many <= _MOST_OUT_OF_FEW if backward else few * many <= _FEW_PRODUCTS
            return "direct" if direct else "torch"
        if min(height, width) < _FEWEST_PIXELS:
            return "torch"
        on_many_pixels = many <= _NARROW_ON_MANY_PIXELS and height * width >= _MANY_PIXELS
        return "tiled" if few < _NARROW or many <= _NARROW or on_many_pixels else "winograd"
    if convolution.stride == (2, 2) and backward:
        most = _NARROW if convolution.kernel_size == (1, 1) else _NARROW // 2
        return "direct" if convolution.in_channels <= most else "torch"
    return "torch"


def _is_plain(module: nn.Module) -> bool:
    """Whether it is a convolution that the kernels compute, and more quickly for some images."""
    return (
        type(module) is nn.Conv2d
        and not has_own_convolution(module)
        and (module.kernel_size, module.stride) in _KINDS
        and (module.padding == (module.kernel_size[0] // 2,) * 2 or module.padding == "same")
        and module.dilation == (1, 1)
        and module.groups == 1
        and module.padding_mode == "zeros"
    )
