"""Runs convolutions by this package's kernels where they are faster than torch's."""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dfad_fast.models.surgery.sums import Output
from dfad_fast.ops import WinogradWeight, narrow_conv2d, winograd_conv2d, winograd_weight
from dfad_fast.private_torch import has_own_convolution

Algorithm = Literal["torch", "winograd", "tiled", "direct"]
"""torch's own convolution; :func:`dfad_fast.ops.winograd_conv2d`; :func:`dfad_fast.ops.narrow_conv2d` by tiles, which
also uses Winograd's filtering; and narrow_conv2d directly."""

# For these limits see benchmarks/results/convolutions. They are fixed and not measured at the start of a run, so that a
# repeated run gives the same numbers.
_FEWEST_CHANNELS = 8  # with fewer, a tile's transforms cost more than the saved multiplications
_NARROW = 32  # up to here it is best to transform tiles while they are in registers
_NARROW_ON_MANY_PIXELS = 64
_MANY_PIXELS = 256
_FEWEST_PIXELS = 3  # along a side: with fewer, most of a tile is padding
_FEW_PRODUCTS = 32  # per pixel and tap
_MOST_OUT_OF_FEW = 64


# Kernel and stride.
_KINDS = (((3, 3), (1, 1)), ((3, 3), (2, 2)), ((1, 1), (2, 2)))


class Convolutions:
    """Computes convolutions by the fastest enabled algorithm.

    The choice depends only on channels, pixels and gradients. With ``frozen`` the weights for winograd_conv2d are
    transformed once, at first use: later changes to them have no effect.
    """

    def __init__(self, frozen: bool, winograd: bool, direct: bool) -> None:
        self._wanted = {"winograd": winograd, "tiled": winograd, "direct": direct, "torch": True}
        self._transformed: dict[nn.Module, WinogradWeight] | None = {} if frozen else None
        self.taken: dict[nn.Module, set[Algorithm]] = {}

    def convolved(self, convolution: nn.Conv2d, x: Tensor) -> Output | None:
        """The output of a plain ``convolution`` for ``x``.

        None if torch's kernel must compute it: for images without a batch dimension or with another dtype than float32,
        and under autocast.
        """
        in_float32 = x.dtype == convolution.weight.dtype == torch.float32
        if x.dim() != 4 or not in_float32 or torch.is_autocast_enabled(x.device.type):
            return None
        backward = torch.is_grad_enabled() and x.requires_grad
        algorithm = quickest(convolution, x.shape[2], x.shape[3], backward)
        if not self._wanted[algorithm]:
            algorithm = "torch"
        self.taken.setdefault(convolution, set()).add(algorithm)
        stride = convolution.stride[0]
        height, width = ((side + stride - 1) // stride for side in x.shape[2:])
        shape = torch.Size((len(x), convolution.out_channels, height, width))
        return Output((shape, x.dtype, x.device), partial(self._compute, algorithm, convolution, x))

    def _compute(
        self, algorithm: Algorithm, convolution: nn.Conv2d, x: Tensor, residual: Tensor | None, slope: float
    ) -> Tensor:
        weight, bias = convolution.weight, convolution.bias
        if algorithm in ("tiled", "direct"):
            tile = 4 if algorithm == "tiled" else 0
            stride = convolution.stride[0]
            return narrow_conv2d(x, weight, bias, residual, stride=stride, slope=slope, tile=tile)
        if algorithm == "winograd":
            backward = torch.is_grad_enabled() and x.requires_grad
            filters = weight if self._transformed is None else self._frozen_weight(convolution, backward)
            relu = residual is None and slope == 0
            out = winograd_conv2d(x, filters, bias, relu=relu)
            return out if relu else _finished(out, residual, slope)
        return _finished(nn.Conv2d.forward(convolution, x), residual, slope)

    def _frozen_weight(self, convolution: nn.Conv2d, backward: bool) -> WinogradWeight:
        assert self._transformed is not None
        known = self._transformed.get(convolution)
        if known is None or (backward and known.adjoint is None):
            known = self._transformed[convolution] = winograd_weight(convolution.weight, adjoint=backward)
        return known


def _finished(out: Tensor, residual: Tensor | None, slope: float) -> Tensor:
    """Works in place: nothing else holds a convolution's result, and its backward does not need it."""
    if residual is not None:
        out.add_(residual)
    if slope == 0:
        return F.relu_(out)
    return out if slope == 1 else F.leaky_relu_(out, slope)


def quickest(convolution: nn.Conv2d, height: int, width: int, backward: bool) -> Algorithm:
    """The fastest algorithm for this convolution, which the kernels can compute, on images of this size.

    ``backward``: whether the images' gradient is needed.
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


def is_plain(module: nn.Module) -> bool:
    """Whether it is a convolution that the kernels compute, faster than torch for some images."""
    return (
        type(module) is nn.Conv2d
        and not has_own_convolution(module)
        and (module.kernel_size, module.stride) in _KINDS
        and (module.padding == (module.kernel_size[0] // 2,) * 2 or module.padding == "same")
        and module.dilation == (1, 1)
        and module.groups == 1
        and module.padding_mode == "zeros"
    )
