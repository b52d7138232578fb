r"""Batch norm, addition of a residual, and activation, in two passes over the features.

With mean :math:`\mu` and biased variance :math:`\sigma^2` of each channel, :math:`\hat x = (x - \mu) / \sqrt{\sigma^2 +
\epsilon}`, and the gradient :math:`g` before the activation,

.. math:: y = a(\gamma \hat x + \beta + r), \quad a(v) = v \text{ for } v > 0 \text{ else } \mathrm{slope} \cdot v

.. math:: \partial x = \frac{\gamma}{\sqrt{\sigma^2 + \epsilon}} (g - \bar g - \hat x\,\overline{g \hat x}), \quad
          \partial r = g, \quad \partial \gamma = \sum g \hat x, \quad \partial \beta = \sum g .
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from dfad_fast import backends
from dfad_fast.ops import channels
from dfad_fast.ops._checks import check_floating, check_named_tensors, dtype_name
from dfad_fast.ops._dtypes import compute_dtype
from dfad_fast.ops._numbers import constant as constant_number

_NAME = "batch_norm_act"
_op = backends.op(_NAME)


def reference(
    x: torch.Tensor,
    residual: torch.Tensor | None = None,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    given: torch.Tensor | None = None,
    constant: bool = False,
    slope: float = 0.0,
    eps: float = 1e-5,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Output and statistics in plain PyTorch, differentiable any number of times.

    Unless ``constant``, it normalizes by the statistics of x, and returns ``given`` if given.
    """
    _check(x, residual, weight, bias, given, constant, slope, eps)
    dtype = compute_dtype(x)
    wide = x.to(dtype)
    weight, bias = (None if p is None else p.to(dtype) for p in (weight, bias))
    if given is None:
        with torch.no_grad():
            given = channels.reference([x])
    if constant:
        y = F.batch_norm(wide, given[0], given[1], weight, bias, training=False, eps=eps)
    else:
        y = F.batch_norm(wide, None, None, weight, bias, training=True, eps=eps)
    if residual is not None:
        y = y + residual.to(dtype)
    if slope == 0:
        y = F.relu(y)
    elif slope != 1:
        y = F.leaky_relu(y, slope)
    return y.to(x.dtype), given


def batch_norm_act(
    x: torch.Tensor,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    running_mean: torch.Tensor | None = None,
    running_var: torch.Tensor | None = None,
    *,
    residual: torch.Tensor | None = None,
    slope: float = 0.0,
    training: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    statistics: torch.Tensor | None = None,
) -> torch.Tensor:
    """Batch norm, a residual and ReLU or LeakyReLU as one op: ``relu(batch_norm(x) + residual)``.

    Differentiable in every tensor except the running statistics. For backward it keeps x, and also the output if there
    are both a residual and an activation; the rest is recomputed. Source: Ioffe and Szegedy 2015, arXiv 1502.03167,
    algorithm 1; the order of norm, residual and ReLU follows He et al. 2016, arXiv 1512.03385.

    Args:
        x: [B, C, ...]; float64, float32, float16 or bfloat16. Any strides; on the CPU channels_last is fastest for few
            channels.
        weight: [C], or None for 1; any floating dtype.
        bias: [C], or None for 0; any floating dtype.
        running_mean: [C]. In training it is moved in place toward the batch's mean by ``momentum``; in eval mode it is
            the mean that x is normalized by.
        running_var: [C]. The same for the unbiased variance.
        residual: added before the activation; same shape and dtype as x.
        slope: slope of the activation below 0: 0 for ReLU, 1 for no activation, in between for LeakyReLU.
        training: whether to normalize by the batch's own statistics. Without running statistics this is always so.
        momentum: weight of the batch in the running statistics.
        eps: added to the variance.
        statistics: [2, C], mean and biased variance of x if already known, in float32 (float64 if x is float64). They
            are not checked and do not change the gradients. Only allowed if the batch's own statistics are used.

    Returns:
        A tensor of the shape, dtype and memory layout of x. Arithmetic is float32, or float64 if x is float64.

    Raises:
        TypeError: an input is not a floating-point tensor, the residual's dtype differs from that of x, or slope, eps
            or momentum is not a number.
        ValueError: shapes or devices do not match, training has at most one value per channel, only one of the running
            statistics is given, slope, eps or momentum is out of range, or slope or eps requires a gradient.
    """
    optional = {
        "weight": weight,
        "bias": bias,
        "running_mean": running_mean,
        "running_var": running_var,
        "residual": residual,
        "statistics": statistics,
    }
    check_named_tensors(_NAME, optional, x=x, **optional)
    if not type(slope) is type(eps) is float:
        slope, eps = constant_number(_NAME, "slope", slope), constant_number(_NAME, "eps", eps)
    if (running_mean is None) != (running_var is None):
        raise ValueError(f"{_NAME}: running_mean and running_var go together, got one of them")
    fixed = not training and running_mean is not None
    if running_mean is not None:
        assert running_var is not None
        if x.dim() >= 2:  # otherwise the op raises the error about x
            _check_channels("running_mean", running_mean, x)
            _check_channels("running_var", running_var, x)
        if training:
            _check_momentum(momentum)
    if fixed:
        if statistics is not None:
            raise ValueError(f"{_NAME}: statistics go with those of the batch, got running ones in eval mode")
        assert running_mean is not None
        assert running_var is not None
        statistics = torch.stack((running_mean, running_var)).detach().to(compute_dtype(x))
    tensors = [t for t in (x, residual, weight, bias) if t is not None]
    compute = _op if backends.native(*tensors) else reference
    out, found = compute(x, residual, weight, bias, statistics, fixed, slope, eps)
    if training and running_mean is not None:
        assert running_var is not None
        _follow(running_mean, running_var, found, momentum, x.numel() // x.shape[1])
    return out


def _check_momentum(momentum: float) -> None:
    if not isinstance(momentum, (int, float)):
        raise TypeError(f"{_NAME}: momentum must be a number, got {type(momentum).__name__}")
    if not 0 <= momentum <= 1:
        raise ValueError(f"{_NAME}: momentum must be between 0 and 1, got {momentum:g}")


@torch.no_grad()
def _follow(
    running_mean: torch.Tensor,
    running_var: torch.Tensor,
    statistics: torch.Tensor,
    momentum: float,
    values: int,
) -> None:
    mean, variance = statistics.unbind()
    running_mean.lerp_(mean.to(running_mean.dtype), momentum)
    running_var.lerp_((variance * (values / (values - 1))).to(running_var.dtype), momentum)


def _check(
    x: torch.Tensor,
    residual: torch.Tensor | None,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    given: torch.Tensor | None,
    constant: bool,
    slope: float,
    eps: float,
) -> None:
    check_floating(_NAME, "x", x)
    if x.dim() < 2 or x.shape[1] == 0:
        raise ValueError(
            f"{_NAME}: x must have shape [B, C, ...] with at least one channel, got {list(x.shape)}"
        )
    _check_like_x("residual", residual, x)
    _check_channels("weight", weight, x)
    _check_channels("bias", bias, x)
    if not 0 <= slope <= 1:
        raise ValueError(f"{_NAME}: slope must be between 0 and 1, got {slope:g}")
    if not 0 <= eps < math.inf:
        raise ValueError(f"{_NAME}: eps must be finite and not negative, got {eps:g}")
    if constant and given is None:
        raise ValueError(f"{_NAME}: constant statistics must be given")
    if not constant and x.numel() // x.shape[1] <= 1:
        raise ValueError(
            f"{_NAME}: the batch's statistics need more than one value per channel, got x {list(x.shape)}"
        )
    if given is None:
        return
    dtype = compute_dtype(x)
    if given.shape != (2, x.shape[1]) or given.dtype != dtype:
        raise ValueError(
            f"{_NAME}: statistics must be the {dtype_name(dtype)} tensor of shape [2, {x.shape[1]}] that the op "
            f"gives, got {dtype_name(given.dtype)} of shape {list(given.shape)}"
        )
    _check_device("statistics", given, x)


def _check_device(name: str, value: torch.Tensor, x: torch.Tensor) -> None:
    if value.device != x.device:
        raise ValueError(
            f"{_NAME}: x and {name} must be on the same device, got {x.device} and {value.device}"
        )


def _check_like_x(name: str, value: torch.Tensor | None, x: torch.Tensor) -> None:
    if value is None:
        return
    if value.shape != x.shape:
        raise ValueError(
            f"{_NAME}: {name} must have the shape of x (nothing is broadcast), got {list(value.shape)} and "
            f"{list(x.shape)}"
        )
    if value.dtype != x.dtype:
        raise TypeError(
            f"{_NAME}: {name} must have the dtype of x, got {dtype_name(value.dtype)} and {dtype_name(x.dtype)}"
        )
    _check_device(name, value, x)


def _check_channels(name: str, values: torch.Tensor | None, x: torch.Tensor) -> None:
    if values is None:
        return
    check_floating(_NAME, name, values)
    if tuple(values.shape) != (x.shape[1],):
        raise ValueError(f"{_NAME}: {name} must have shape [{x.shape[1]}], got {list(values.shape)}")
    _check_device(name, values, x)


@backends.register_fake(_NAME)
def _fake(
    x: torch.Tensor,
    residual: torch.Tensor | None,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    given: torch.Tensor | None,
    constant: bool,
    slope: float,
    eps: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    _check(x, residual, weight, bias, given, constant, slope, eps)
    return torch.empty_like(x), x.new_empty(2, x.shape[1], dtype=compute_dtype(x))


@backends.register_fake(f"{_NAME}_backward")
def _fake_backward(
    grad: torch.Tensor,
    x: torch.Tensor,
    out: torch.Tensor | None,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    statistics: torch.Tensor,
    constant: bool,
    slope: float,
    eps: float,
    wanted: list[bool],
) -> list[torch.Tensor]:
    _check(x, None, weight, bias, statistics, constant, slope, eps)
    _check_like_x("grad", grad, x)
    _check_like_x("out", out, x)
    channels, dtype = x.shape[1], compute_dtype(x)
    gradients = (
        torch.empty_like(x),
        torch.empty_like(x),
        x.new_empty(channels, dtype=dtype if weight is None else weight.dtype),
        x.new_empty(channels, dtype=dtype if bias is None else bias.dtype),
    )
    return [gradient for gradient, want in zip(gradients, wanted, strict=True) if want]
