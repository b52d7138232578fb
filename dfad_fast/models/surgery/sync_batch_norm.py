"""Batch norm with the statistics of a batch shared by several processes, inside a block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from dfad_fast.distributed import differentiable, processes
from dfad_fast.errors import UsageError
from dfad_fast.models.reading.batch_norm import pooled
from dfad_fast.models.surgery.connectors import SwappingBatchNorm2d
from dfad_fast.precision import at_least_float32
from dfad_fast.private_torch import batch_statistics, is_batch_norm

# These types are known to do nothing else.
_FORWARDS = (nn.BatchNorm2d.forward, SwappingBatchNorm2d.forward)


class SynchronizedBatchNorms:
    """Makes the batch norm layers of ``network`` normalize with the whole batch's mean and variance in training.

    Like torch's SyncBatchNorm, which runs only on GPUs. Modules, weights and hooks do not change, and nothing changes
    outside ``used()``. Raises UsageError for a layer with other behavior.
    """

    def __init__(self, network: nn.Module) -> None:
        self._layers: list[Any] = [m for m in network.modules() if is_batch_norm(m)]
        for layer in self._layers:
            if type(layer).forward not in _FORWARDS or "forward" in layer.__dict__:
                raise UsageError(
                    f"{type(layer).__name__} is not a plain batch norm layer, so it cannot be synchronized over "
                    "processes: leave --sync-batch-norm out (in Python sync_batch_norm=)"
                )

    @contextmanager
    def used(self) -> Iterator[None]:
        """Inside the block the layers are synchronized."""
        for layer in self._layers:
            # nn.Module.__call__ calls forward. Written to the dictionary, because nn.Module intercepts normal
            # assignment.
            layer.__dict__["forward"] = partial(_forward, layer)
        try:
            yield
        finally:
            for layer in self._layers:
                layer.__dict__.pop("forward", None)


def is_synchronized(layer: nn.Module) -> bool:
    """Whether ``layer`` is in a network that is now synchronized."""
    return "forward" in layer.__dict__


def _forward(layer: Any, x: Tensor) -> Tensor:
    if not layer.training:
        return type(layer).forward(layer, x)
    statistics = pooled(own_statistics(x))
    follow(layer, statistics, processes.count() * x.numel() // x.shape[1])
    given = synchronize(x, layer.weight, layer.bias, statistics, layer.eps)
    mean, variance = statistics
    return F.batch_norm(given.x, mean, variance, given.weight, given.bias, training=False, eps=layer.eps)


@torch.no_grad()
def own_statistics(x: Tensor) -> Tensor:
    """[2, C]: mean and biased variance of this process's values [B, C, ...]."""
    return torch.stack(batch_statistics(at_least_float32(x)))


@torch.no_grad()
def follow(norm: Any, statistics: Tensor, values: int) -> None:
    """Updates the running statistics as the layer itself would for ``values`` values per channel."""
    if norm.running_mean is None:
        return
    mean, variance = statistics.to(norm.running_mean.dtype)
    norm.num_batches_tracked.add_(1)
    momentum = 1.0 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean, momentum)
    norm.running_var.lerp_(variance * (values / (values - 1)), momentum)


class Synchronized(NamedTuple):
    """The replacements for a batch norm's input, weight and bias."""

    x: Tensor
    weight: Tensor
    bias: Tensor


def synchronize(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    statistics: Tensor,
    eps: float,
    own_removed: bool = False,
) -> Synchronized:
    """Corrects the gradient of a normalization that treats ``statistics`` as constants to that of a batch norm.

    Pass the result through one normalization by the whole batch's ``statistics`` [2, C]. Its backward must give ``scale
    dy`` for x, with ``scale = weight / sqrt(variance + eps)``, and this process's sums of dy and ``dy (x - mean) /
    sqrt(variance + eps)`` for bias and weight. The sums of all processes give the parts of the gradient through mean
    and variance. ``own_removed``: the normalization has already subtracted these parts for its own values only, as
    :func:`dfad_fast.ops.generator_block` does.
    """
    channels = x.shape[1]
    # In the statistics' type: torch checks only the weight's type to detect mixed types.
    weight = statistics.new_ones(channels) if weight is None else weight
    bias = statistics.new_zeros(channels) if bias is None else bias
    return Synchronized(*_Synchronize.apply(x, weight, bias, statistics, eps, own_removed))


class _Synchronize(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, statistics: Tensor, eps: float, own_removed: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.save_for_backward(x, weight, statistics)
        ctx.eps, ctx.own_removed = eps, own_removed
        return x.view_as(x), weight.view_as(weight), bias.view_as(bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, by_weight: Tensor, by_bias: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, statistics = ctx.saved_tensors
        own = torch.stack((by_bias, by_weight)).to(statistics.dtype) / (x.numel() // x.shape[1])
        off = differentiable.mean(own)
        if ctx.own_removed:
            off = off - own
        mean, variance = statistics
        deviation = (variance + ctx.eps).sqrt()
        slope = -weight * off[1] / (deviation * deviation)
        level = -weight * off[0] / deviation - slope * mean
        shape = [1, -1, *[1] * (x.dim() - 2)]
        wide = torch.addcmul(at_least_float32(grad), at_least_float32(x), slope.reshape(shape))
        return wide.add_(level.reshape(shape)).to(grad.dtype), by_weight, by_bias, None, None, None
