"""Runs batch norm layers by :func:`dfad_fast.ops.batch_norm_act`."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor, nn

from dfad_fast.models.surgery.sums import Output
from dfad_fast.nn.batch_norm import batch_norm_like

# By exact type, because a subclass may compute something else; with the dimensions of each one's input.
NORMS: dict[type[nn.Module], tuple[int, ...]] = {
    nn.BatchNorm1d: (2, 3),
    nn.BatchNorm2d: (4,),
    nn.BatchNorm3d: (5,),
}


def normalized(norm: Any, x: Tensor) -> Output | None:
    """The output of ``norm``, one of NORMS, for ``x``.

    None for inputs that only torch accepts or explains in an error: other features, batches of one value per channel,
    momenta outside [0, 1].
    """
    if x.dim() not in NORMS[type(norm)] or x.shape[1] != norm.num_features:
        return None
    if norm.training and x.numel() <= x.shape[1]:
        return None
    if norm.momentum is not None and not 0 <= norm.momentum <= 1:
        return None
    return Output((x.shape, x.dtype, x.device), partial(batch_norm_like, norm, x))
