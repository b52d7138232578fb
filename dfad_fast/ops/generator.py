r"""A generator's block: batch norm, LeakyReLU, nearest upsampling and a 3x3 convolution in one pass.

With the batch's statistics :math:`\mu, \sigma^2` per channel,

.. math:: y = w * \mathrm{up}(a(\gamma (x - \mu) / \sqrt{\sigma^2 + \epsilon} + \beta)) + b, \quad
          a(v) = v \text{ for } v > 0 \text{ else } \mathrm{slope} \cdot v .

The upsampled image is never built, because its pixels come in groups of four equal ones. In one dimension, with filter
w and pixels d, pixel c and its neighbors give four outputs by five products: d[c-1] - d[c] times w0 and w0 + w1, d[c]
times w0 + w1 + w2, and d[c+1] - d[c] times w1 + w2 and w2. In two dimensions this takes 25 instead of 144
multiplications per 2x2 pixels of x and pair of channels, forward and backward. The result is the same except for the
order of the sums. This is Winograd's minimal filtering (Lavin and Gray 2016, arXiv 1509.09308) of the four phases,
which share the filters' sum. Without upsampling each pixel is multiplied by the nine taps.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from dfad_fast import backends
from dfad_fast.ops._numbers import constant
from dfad_fast.precision import at_least_float32

_NAME = "generator_block"
_op = backends.op(_NAME)

Block = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Output, and the statistics [2, channels] of x and of the output: mean and biased variance."""


def reference(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    norm_weight: torch.Tensor | None = None,
    norm_bias: torch.Tensor | None = None,
    *,
    upsample: int = 2,
    slope: float = 1.0,
    eps: float = 1e-5,
    statistics: torch.Tensor | None = None,
) -> Block:
    """The formula in plain PyTorch. It always normalizes by its own statistics of x."""
    _check(x, weight, upsample)
    normalized = F.batch_norm(x, None, None, norm_weight, norm_bias, training=True, eps=eps)
    active = F.leaky_relu(normalized, slope) if slope != 1.0 else normalized
    if upsample != 1:
        active = F.interpolate(active, scale_factor=upsample)
    out = F.conv2d(active, weight, bias, padding=1)
    return out, _statistics(x) if statistics is None else statistics, _statistics(out)


@torch.no_grad()
def _statistics(x: torch.Tensor) -> torch.Tensor:
    variance, mean = torch.var_mean(at_least_float32(x), dim=(0, 2, 3), correction=0)
    return torch.stack((mean, variance))


def generator_block(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    norm_weight: torch.Tensor | None = None,
    norm_bias: torch.Tensor | None = None,
    *,
    upsample: int = 2,
    slope: float = 1.0,
    eps: float = 1e-5,
    statistics: torch.Tensor | None = None,
) -> Block:
    """Batch norm by the batch's own statistics, LeakyReLU, nearest upsampling and a 3x3 convolution of padding 1.

    The order follows DFAD's generator (Fang et al. 2019, arXiv 1912.11006). Differentiable in every tensor. On the CPU
    in float32 it is one compiled op, which keeps only x for backward; in all other cases it is plain PyTorch.

    Args:
        x: [B, C, H, W], any floating dtype; channels_last is fastest.
        weight: [K, C, 3, 3], the convolution's filters, in the dtype of x.
        bias: [K], the convolution's bias, or None.
        norm_weight: [C], the batch norm's weight, or None for 1.
        norm_bias: [C], the batch norm's bias, or None for 0.
        upsample: 1 (none) or 2.
        slope: slope of the LeakyReLU below 0; 1 for no activation.
        eps: added to the variance.
        statistics: [2, C], mean and biased variance of x, if the block before returned them. They are not checked and
            do not change the gradients.

    Returns:
        The output [B, K, upsample * H, upsample * W], and the statistics of x [2, C] and of the output [2, K], each
        mean and biased variance. Statistics carry no gradient. They serve running statistics and the next block.

    Raises:
        TypeError: slope or eps is not a number.
        ValueError: shapes do not match, there is only one value per channel, upsample is neither 1 nor 2, or slope or
            eps requires a gradient.
    """
    if not type(slope) is type(eps) is float:
        slope, eps = constant(_NAME, "slope", slope), constant(_NAME, "eps", eps)
    _check(x, weight, upsample)
    tensors = [t for t in (x, weight, bias, norm_weight, norm_bias) if t is not None]
    if backends.native_on_cpu(*tensors):
        return _op(x, statistics, norm_weight, norm_bias, weight, bias, upsample, slope, eps)
    return reference(
        x,
        weight,
        bias,
        norm_weight,
        norm_bias,
        upsample=upsample,
        slope=slope,
        eps=eps,
        statistics=statistics,
    )


def _check(x: torch.Tensor, weight: torch.Tensor, upsample: int) -> None:
    if x.dim() != 4:
        raise ValueError(f"{_NAME}: x must have the shape [B, C, H, W], got {list(x.shape)}")
    if weight.dim() != 4 or tuple(weight.shape[1:]) != (x.shape[1], 3, 3):
        raise ValueError(
            f"{_NAME}: weight must have the shape [channels, {x.shape[1]}, 3, 3], got {list(weight.shape)}"
        )
    if 0 in (x.shape[1], weight.shape[0]):
        raise ValueError(
            f"{_NAME}: there must be at least one channel, got x {list(x.shape)} and weight {list(weight.shape)}"
        )
    if upsample not in (1, 2):
        raise ValueError(f"{_NAME}: upsample must be 1 or 2, got {upsample}")
    if x.shape[0] * x.shape[2] * x.shape[3] <= 1:
        raise ValueError(
            f"{_NAME}: a batch norm needs more than one value per channel, got x {list(x.shape)}"
        )


@backends.register_fake(_NAME)
def _fake(
    x: torch.Tensor,
    given: torch.Tensor | None,
    norm_weight: torch.Tensor | None,
    norm_bias: torch.Tensor | None,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    upsample: int,
    slope: float,
    eps: float,
) -> Block:
    _check(x, weight, upsample)
    batch, channels, height, width = x.shape
    shape = (batch, weight.shape[0], upsample * height, upsample * width)
    return (
        torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last),
        x.new_empty(2, channels),
        x.new_empty(2, weight.shape[0]),
    )


@backends.register_fake(f"{_NAME}_backward")
def _fake_backward(
    grad: torch.Tensor,
    x: torch.Tensor,
    statistics: torch.Tensor,
    norm_weight: torch.Tensor | None,
    norm_bias: torch.Tensor | None,
    weight: torch.Tensor,
    upsample: int,
    slope: float,
    eps: float,
    wanted: list[bool],
) -> list[torch.Tensor]:
    channels = x.shape[1]
    gradients = (
        torch.empty_like(x, memory_format=torch.channels_last),
        x.new_empty(channels),
        x.new_empty(channels),
        torch.empty_like(weight),
        x.new_empty(weight.shape[0]),
    )
    return [gradient for gradient, want in zip(gradients, wanted, strict=True) if want]
