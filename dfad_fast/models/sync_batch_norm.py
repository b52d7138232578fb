"""Batch norm by the statistics of a batch that is spread over several processes, while somebody wants it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from dfad_fast import processes
from dfad_fast.precision import at_least_float32

_KINDS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class SynchronisedBatchNorms:
    """The batch norm layers of ``network``, normalising in training by the whole batch's mean and variance.

    As torch's SyncBatchNorm, which runs on GPUs only; modules, weights and hooks stay what they are, and nothing is
    changed outside ``used()``. A subclass normalises like its base.
    """

    def __init__(self, network: nn.Module) -> None:
        self._layers: list[Any] = [m for m in network.modules() if isinstance(m, _KINDS)]

    @contextmanager
    def used(self) -> Iterator[None]:
        for layer in self._layers:
            # What nn.Module.__call__ calls. Into the dictionary, since nn.Module looks at all that is set as usual.
            layer.__dict__["forward"] = partial(_forward, layer)
        try:
            yield
        finally:
            for layer in self._layers:
                layer.__dict__.pop("forward", None)


def _forward(layer: Any, x: Tensor) -> Tensor:
    if not layer.training:
        return type(layer).forward(layer, x)
    wide = at_least_float32(x)
    dims = [d for d in range(x.dim()) if d != 1]
    own = torch.stack(torch.var_mean(wide, dim=dims, correction=0))
    variances, means = processes.gather(own[None]).unbind(1)
    mean = means.mean(0)
    variance = variances.mean(0) + (means - mean).square().mean(0)
    _follow(layer, mean.detach(), variance.detach(), processes.count() * x.numel() // x.shape[1])
    scale = (variance + layer.eps).rsqrt()
    if layer.weight is not None:
        scale = scale * layer.weight
    shape = [1, -1, *[1] * (x.dim() - 2)]
    shift = 0 if layer.bias is None else layer.bias.reshape(shape)
    return torch.addcmul(shift - (mean * scale).reshape(shape), wide, scale.reshape(shape)).to(x.dtype)


@torch.no_grad()
def _follow(layer: Any, mean: Tensor, variance: Tensor, values: int) -> None:
    """Moves the running statistics as the layer itself would."""
    if layer.running_mean is None:
        return
    layer.num_batches_tracked.add_(1)
    momentum = 1.0 / float(layer.num_batches_tracked) if layer.momentum is None else layer.momentum
    layer.running_mean.lerp_(mean.to(layer.running_mean.dtype), momentum)
    layer.running_var.lerp_((variance * (values / (values - 1))).to(layer.running_var.dtype), momentum)
