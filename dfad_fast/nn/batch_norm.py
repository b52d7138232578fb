"""Batch norm fused with the residual and the activation that follow it."""

from __future__ import annotations

import torch
from torch import nn

from dfad_fast.ops import batch_norm_act


class BatchNormAct(nn.BatchNorm2d):
    """A batch norm layer and the activation after it as one module, by :func:`dfad_fast.ops.batch_norm_act`.

    It has the parameters and buffers of :class:`torch.nn.BatchNorm2d` under the same names and loads its weights.
    Features may have any number of dimensions.

    Args:
        num_features: number of channels C.
        eps: added to the variance.
        momentum: weight of the current batch in the running statistics; None for their plain mean over all batches.
        affine: whether to have a weight and a bias.
        track_running_stats: whether to keep running statistics. Without them eval mode uses the batch's own.
        slope: slope of the activation below 0: 0 for ReLU, 1 for no activation, in between for LeakyReLU.
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
        """Normalize, add the residual, activate.

        Args:
            input: [B, C, ...]; float64, float32, float16 or bfloat16.
            residual: same shape and dtype as ``input``, or None. Added before the activation.

        Returns:
            A tensor of the shape and dtype of ``input``.

        Raises:
            TypeError, ValueError: as :func:`dfad_fast.ops.batch_norm_act`.
        """
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
    """The output of a PyTorch batch norm layer, computed by :func:`dfad_fast.ops.batch_norm_act`.

    As in the layer's own forward, running statistics and ``num_batches_tracked`` are updated in training mode.

    Args:
        layer: the batch norm layer with C channels.
        x: [B, C, ...]; float64, float32, float16 or bfloat16.
        residual: same shape and dtype as x, or None. Added before the activation.
        slope: slope of the activation below 0: 0 for ReLU, 1 for no activation.

    Returns:
        A tensor of the shape and dtype of x.

    Raises:
        TypeError, ValueError: as :func:`dfad_fast.ops.batch_norm_act`.
    """
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
