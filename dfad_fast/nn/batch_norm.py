"""Batch norm with what comes behind it: a residual and an activation."""

from __future__ import annotations

import torch
from torch import nn

from dfad_fast.ops import batch_norm_act


class BatchNormAct(nn.BatchNorm2d):
    """:func:`dfad_fast.ops.batch_norm_act` in the place of a batch norm layer and the activation behind it.

    Parameters, buffers and their names are those of :class:`torch.nn.BatchNorm2d`, whose weights it takes; features
    may have any number of dimensions.

    Args:
        num_features: channels C.
        eps: is added to the variance.
        momentum: share of the batch in the running statistics; None for their plain mean over all batches.
        affine: whether there are a weight and a bias.
        track_running_stats: whether there are running statistics; without, eval mode takes the batch's own.
        slope: of the activation below 0: 0 for ReLU, 1 for none, between them LeakyReLU.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        slope: float = 0.0,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats)
        self.slope = slope

    def forward(self, input: torch.Tensor, residual: torch.Tensor | None = None) -> torch.Tensor:
        """What is made of ``input`` [B, C, ...]; ``residual``, of its shape, is added before the activation."""
        return batch_norm_like(self, input, residual, self.slope)

    def extra_repr(self) -> str:
        """The settings, as ``print`` shows them."""
        return f"{super().extra_repr()}, slope={self.slope}"


def batch_norm_like(
    layer: nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d,
    x: torch.Tensor,
    residual: torch.Tensor | None = None,
    slope: float = 1.0,
) -> torch.Tensor:
    """What ``layer``, a batch norm layer of torch's, gives for ``x``, by the fused op; it counts its batches, too."""
    momentum = 0.0 if layer.momentum is None else float(layer.momentum)
    if layer.training and layer.track_running_stats and layer.num_batches_tracked is not None:
        layer.num_batches_tracked.add_(1)
        if layer.momentum is None:
            momentum = 1.0 / float(layer.num_batches_tracked)
    tracked = layer.track_running_stats or not layer.training
    return batch_norm_act(
        x,
        layer.weight,
        layer.bias,
        layer.running_mean if tracked else None,
        layer.running_var if tracked else None,
        residual=residual,
        slope=slope,
        training=layer.training,
        momentum=momentum,
        eps=layer.eps,
    )
