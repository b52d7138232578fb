r"""3x3 and 1x1 convolution of images with few channels, with what follows it in the same pass.

.. math:: y = a(w * x + b + r), \quad a(v) = v \text{ for } v > 0 \text{ else } \mathrm{slope} \cdot v

with zeros around x, kernel_size // 2 on each side. Pixels lie in blocks of 8 channels; one channel of each of up to 28
pixels is broadcast against a row of weights, and their sums, of 8 to 32 output channels, stay in registers. The
gradient of x is the same convolution with filters turned by half a turn and their channels changed about; for a stride
of 2 each parity of rows and columns has its own taps. With ``tile=4`` the products are those of Winograd's minimal
filtering F(4x4, 3x3), a quarter of them (Lavin and Gray 2016, arXiv 1509.09308), 28 tiles at a time, so that nothing
transformed leaves the second cache.
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
    """A convolution that is fast where channels are few: 64 and less, a single one included.

    ``F.conv2d(x, weight, bias, stride, padding=kernel_size // 2)``, plus the residual, through a ReLU or LeakyReLU. In
    float32 on the CPU; where tensors are of another dtype or device, under autocast, and inside the transforms of
    :mod:`torch.func`, :func:`torch.nn.functional.conv2d` serves. Differentiable once in every tensor. The same bits
    from run to run and for any number of threads.

    Args:
        x: images ``[N, C, H, W]``; channels_last memory spares a copy.
        weight: filters ``[K, C, 3, 3]`` or ``[K, C, 1, 1]``.
        bias: ``[K]``, or None.
        residual: of the result's shape, or None; added before the activation.
        stride: 1 or 2.
        slope: of the activation below 0, in [0, 1]: 0 for ReLU, 1 for none.
        tile: 0 for the direct convolution. 4, for 3x3 filters and a stride of 1, for Winograd's minimal filtering of
            4x4 pixels: twice as fast from 8 channels on, with up to twice the rounding error; a pixel that is not
            finite makes those of its tiles NaN.

    Returns:
        ``[N, K, ceil(H / stride), ceil(W / stride)]``, in channels_last memory where the compiled kernels serve.

    Raises:
        TypeError: x, weight, bias or residual is no tensor, slope is no number, or dtypes differ.
        ValueError: shapes or devices do not fit, the stride or the tile is another, or the slope is not in [0, 1].
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
    """:func:`narrow_conv2d` without residual and activation, and what a batch norm behind it needs.

    Returns:
        The result, and its statistics ``[2, K]``: mean and biased variance per channel, summed while the result was at
        hand. Statistics carry no gradient.

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
    """Whether the compiled kernels serve, which check what they are given; else it is checked here."""
    check_named_tensors(_NAME, ("bias", "residual"), x=x, weight=weight, bias=bias, residual=residual)
    if backends.native_on_cpu(*(t for t in (x, weight, bias, residual) if t is not None)):
        return True
    device = x.device.type
    autocast = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    # Autocast casts them all.
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
