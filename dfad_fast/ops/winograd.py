r"""3x3 convolution by Winograd's minimal filtering.

A tile of :math:`m \times m` outputs needs :math:`(m+2)^2` multiplications per pair of channels instead of
:math:`9 m^2`: 2.25 times fewer for :math:`m = 2`, 4 times fewer for :math:`m = 4`.

.. math:: Y = A^\top \left[\sum_c (G\, w_c\, G^\top) \odot (B^\top x_c B)\right] A

for each tile, where x is its window of :math:`m + 2` by :math:`m + 2` pixels. The gradients are the adjoints of these
linear maps.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from dfad_fast import backends
from dfad_fast.ops._checks import check_convolved, check_filters, check_named_tensors

_NAME = "winograd_conv2d"
_op = backends.op(_NAME)
_weight_op = backends.op("winograd_weight")
_PANEL = 32


@dataclass(frozen=True, eq=False)
class WinogradWeight:
    """Constant filters, transformed once; made by :func:`winograd_weight`.

    Attributes:
        weight: the filters ``[K, C, 3, 3]``, detached; used if the compiled kernels are not.
        tile: side of the tiles for which they were transformed, 2 or 4.
        transformed: the filters in transformed form, in the dtype of ``weight``, or None.
        adjoint: the same for the gradient of x. If None, each backward pass computes it again.
    """

    weight: torch.Tensor
    tile: int
    transformed: torch.Tensor | None
    adjoint: torch.Tensor | None

    @property
    def nbytes(self) -> int:
        """Size in bytes of the transformed filters, without the original ones."""
        return sum(x.nbytes for x in (self.transformed, self.adjoint) if x is not None)


def reference(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None, relu: bool = False
) -> torch.Tensor:
    """The convolution in plain PyTorch."""
    result = F.conv2d(x, weight, bias, padding=1)
    return F.relu(result) if relu else result


def winograd_weight(weight: torch.Tensor, tile: int = 4, adjoint: bool = False) -> WinogradWeight:
    """Transform constant filters, such as a teacher's, once for many calls of :func:`winograd_conv2d`.

    Source: Lavin and Gray 2016, arXiv 1509.09308.

    Args:
        weight: filters ``[K, C, 3, 3]``. They get no gradient, and later changes to them have no effect.
        tile: side of the tiles, 2 or 4.
        adjoint: transform them for the gradient of x, too, which takes the same memory again.

    Returns:
        The transformed filters, to be passed as the weight. They take 16/9 of the filters' memory for ``tile=2`` and 4
        times the memory for ``tile=4``, with channels rounded up to multiples of 32.

    Raises:
        TypeError: weight is not a tensor.
        ValueError: weight does not have shape ``[K, C, 3, 3]``, or the tile is neither 2 nor 4.
    """
    name = "winograd_weight"
    check_named_tensors(name, weight=weight)
    check_filters(name, weight, tile)
    weight = weight.detach()
    if not backends.native_on_cpu(weight):
        return WinogradWeight(weight, tile, None, None)
    return WinogradWeight(
        weight, tile, _weight_op(weight, tile), _weight_op(weight, tile, True) if adjoint else None
    )


def winograd_conv2d(
    x: torch.Tensor,
    weight: torch.Tensor | WinogradWeight,
    bias: torch.Tensor | None = None,
    tile: int = 4,
    relu: bool = False,
) -> torch.Tensor:
    r"""``F.conv2d(x, weight, bias, padding=1)`` for 3x3 filters, with 2.25 or 4 times fewer multiplications.

    The compiled kernels compute in float32 on the CPU. For other dtypes or devices, under autocast, and inside the
    transforms of :mod:`torch.func`, it calls :func:`torch.nn.functional.conv2d`. Differentiable once in x, weight and
    bias. Results are bit-equal from run to run and for any number of threads. Source: Lavin and Gray 2016, "Fast
    Algorithms for Convolutional Neural Networks", arXiv 1509.09308.

    Args:
        x: images ``[N, C, H, W]``; channels_last memory avoids a copy.
        weight: filters ``[K, C, 3, 3]`` in the dtype of x, or the result of :func:`winograd_weight`.
        bias: ``[K]`` in the dtype of x, or None.
        tile: side of the tiles, 2 or 4. 4 is faster, with up to about twice the rounding error of the direct
            convolution; 2 has a smaller error. A :class:`WinogradWeight` uses its own tile instead.
        relu: set negative results to 0.

    Returns:
        ``[N, K, H, W]``, in channels_last memory if the compiled kernels are used.

    Raises:
        TypeError: x, weight or bias is not a tensor, or their dtypes differ.
        ValueError: shapes or devices do not match, or the tile is neither 2 nor 4.
    """
    frozen = weight if isinstance(weight, WinogradWeight) else None
    filters = weight.weight if isinstance(weight, WinogradWeight) else weight
    if frozen is not None:
        tile = frozen.tile
    check_named_tensors(_NAME, ("bias",), x=x, weight=filters, bias=bias)
    check_filters(_NAME, filters, tile)
    given = [t for t in (x, filters, bias) if t is not None]
    if not backends.native_on_cpu(*given):
        device = x.device.type
        autocast = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
        # Under autocast dtypes may differ, because it casts all tensors.
        check_convolved(_NAME, x, filters, bias, same_dtype=not autocast)
        return reference(x, filters, bias, relu)
    transformed = (None, None) if frozen is None else (frozen.transformed, frozen.adjoint)
    return _op(x, filters, bias, *transformed, tile, relu)


def _channels_last(x: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)


@backends.register_fake("winograd_weight")
def _fake_weight(weight: torch.Tensor, tile: int, adjoint: bool = False) -> torch.Tensor:
    check_filters("winograd_weight", weight, tile)
    lanes, rows = weight.shape[:2] if not adjoint else weight.shape[:2][::-1]
    panels, filled = (lanes + _PANEL - 1) // _PANEL, (rows + _PANEL - 1) // _PANEL * _PANEL
    return weight.new_empty(((tile + 2) ** 2, (panels * filled + 1) * _PANEL))


@backends.register_fake(_NAME)
def _fake(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    transformed: torch.Tensor | None = None,
    adjoint: torch.Tensor | None = None,
    tile: int = 4,
    relu: bool = False,
) -> torch.Tensor:
    check_filters(_NAME, weight, tile)
    check_convolved(_NAME, x, weight, bias)
    return _channels_last(x, (x.shape[0], weight.shape[0], *x.shape[2:]))


@backends.register_fake(f"{_NAME}_backward")
def _fake_backward(
    grad: torch.Tensor,
    x: torch.Tensor | None,
    weight: torch.Tensor,
    result: torch.Tensor | None,
    adjoint: torch.Tensor | None,
    tile: int,
    x_grad: bool,
    weight_grad: bool,
    bias_grad: bool,
) -> list[torch.Tensor]:
    grads = []
    if x_grad:
        grads.append(_channels_last(grad, (grad.shape[0], weight.shape[1], *grad.shape[2:])))
    if weight_grad:
        grads.append(torch.empty_like(weight))
    if bias_grad:
        grads.append(weight.new_empty(weight.shape[0]))
    return grads
