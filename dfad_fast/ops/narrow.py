r"""3x3 and 1x1 convolution of images with few channels; bias, residual and activation in the same pass.

.. math:: y = a(w * x + b + r), \quad a(v) = v \text{ for } v > 0 \text{ else } \mathrm{slope} \cdot v

with zero padding of kernel_size // 2 on each side. Pixels lie in blocks of 8 channels. One channel of each of up to 28
pixels is broadcast against a row of weights; the sums of 8 to 32 output channels stay in registers. The gradient of x
is the same convolution with filters rotated by 180 degrees and input and output channels swapped; for a stride of 2
each parity of rows and columns has its own taps. ``tile=4`` uses Winograd's minimal filtering F(4x4, 3x3) with a
quarter of the products (Lavin and Gray 2016, arXiv 1509.09308), 28 tiles at a time, so that transformed values stay in
the second-level cache.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from dfad_fast import backends
from dfad_fast.ops._checks import check_named_tensors, check_narrow, check_narrow_grad, narrow_shape
from dfad_fast.ops._numbers import constant
from dfad_fast.precision import at_least_float32

_NAME = "narrow_conv2d"
_op = backends.op(_NAME)


def reference(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    residual: torch.Tensor | None = None,
    stride: int = 1,
    slope: float = 1.0,
) -> torch.Tensor:
    """The formula in plain PyTorch."""
    out = F.conv2d(x, weight, bias, stride, padding=weight.shape[2] // 2)
    if residual is not None:
        out = out + residual
    if slope == 0:
        return F.relu(out)
    return out if slope == 1 else F.leaky_relu(out, slope)


@torch.no_grad()
def _statistics(out: torch.Tensor) -> torch.Tensor:
    variance, mean = torch.var_mean(at_least_float32(out), dim=(0, 2, 3), correction=0)
    return torch.stack((mean, variance))


def narrow_conv2d(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    residual: torch.Tensor | None = None,
    *,
    stride: int = 1,
    slope: float = 1.0,
    tile: int = 0,
) -> torch.Tensor:
    """A convolution that is fast for few channels, from 1 to 64.

    ``F.conv2d(x, weight, bias, stride, padding=kernel_size // 2)``, plus the residual, through a ReLU or LeakyReLU. The
    compiled kernels compute in float32 on the CPU. For other dtypes or devices, under autocast, and inside the
    transforms of :mod:`torch.func`, it calls :func:`torch.nn.functional.conv2d`. Differentiable once in every tensor.
    Results are bit-equal from run to run and for any number of threads. Source of ``tile=4``: Lavin and Gray 2016,
    arXiv 1509.09308.

    Args:
        x: images ``[N, C, H, W]``; channels_last memory avoids a copy.
        weight: filters ``[K, C, 3, 3]`` or ``[K, C, 1, 1]``, in the dtype of x.
        bias: ``[K]`` in the dtype of x, or None.
        residual: same shape and dtype as the result, or None. Added before the activation.
        stride: 1 or 2.
        slope: slope of the activation below 0, in [0, 1]: 0 for ReLU, 1 for no activation.
        tile: 0 for the direct convolution. 4, for 3x3 filters and a stride of 1, for Winograd's minimal filtering of
            4x4 pixels: twice as fast from 8 channels on, with up to twice the rounding error. A pixel that is not
            finite makes all pixels of its tiles NaN.

    Returns:
        ``[N, K, ceil(H / stride), ceil(W / stride)]``, in channels_last memory if the compiled kernels are used.

    Raises:
        TypeError: x, weight, bias or residual is not a tensor, slope is not a number, or dtypes differ.
        ValueError: shapes or devices do not match, stride or tile is not one of the values above, or slope is not in
            [0, 1].
    """
    if type(slope) is not float:
        slope = constant(_NAME, "slope", slope)
    if _native(x, weight, bias, residual, stride, slope, tile):
        return _op(x, weight, bias, residual, stride, slope, False, tile)[0]
    return reference(x, weight, bias, residual, stride, slope)


def narrow_conv2d_with_statistics(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    stride: int = 1,
    tile: int = 0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """:func:`narrow_conv2d` without residual and activation, with the statistics that a following batch norm needs.

    The arguments are those of :func:`narrow_conv2d`.

    Returns:
        The result, and its statistics ``[2, K]``: mean and biased variance per channel, summed in the same pass.
        Statistics carry no gradient.

    Raises:
        TypeError, ValueError: as :func:`narrow_conv2d`.
    """
    if _native(x, weight, bias, None, stride, 1.0, tile):
        return _op(x, weight, bias, None, stride, 1.0, True, tile)
    out = reference(x, weight, bias, None, stride)
    return out, _statistics(out)


def _native(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    residual: torch.Tensor | None,
    stride: int,
    slope: float,
    tile: int,
) -> bool:
    """Whether the compiled kernels are used. They check their arguments; otherwise the arguments are checked here."""
    check_named_tensors(_NAME, ("bias", "residual"), x=x, weight=weight, bias=bias, residual=residual)
    if backends.native_on_cpu(*(t for t in (x, weight, bias, residual) if t is not None)):
        return True
    device = x.device.type
    autocast = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    # Under autocast dtypes may differ, because it casts all tensors.
    check_narrow(_NAME, x, weight, bias, residual, stride, slope, tile=tile, same_dtype=not autocast)
    return False


def _channels_last(x: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)


@backends.register_fake(_NAME)
def _fake(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    residual: torch.Tensor | None,
    stride: int,
    slope: float,
    statistics: bool,
    tile: int = 0,
) -> tuple[torch.Tensor, torch.Tensor]:
    check_narrow(_NAME, x, weight, bias, residual, stride, slope, statistics, tile)
    out = _channels_last(x, narrow_shape(x, weight, stride))
    return out, x.new_empty((2, weight.shape[0]) if statistics else (0,))


@backends.register_fake(f"{_NAME}_backward")
def _fake_backward(
    grad: torch.Tensor,
    x: torch.Tensor,
    weight: torch.Tensor,
    out: torch.Tensor | None,
    stride: int,
    slope: float,
    tile: int,
    wanted: list[bool],
) -> list[torch.Tensor]:
    check_narrow_grad(_NAME, grad, x, weight, out, stride, slope, tile)
    gradients = (
        _channels_last(x, tuple(x.shape)),
        torch.empty_like(weight),
        weight.new_empty(weight.shape[0]),
        _channels_last(grad, tuple(grad.shape)),
    )
    return [gradient for gradient, want in zip(gradients, wanted, strict=True) if want]
