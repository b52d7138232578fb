"""Batch norm layers by :func:`dfad_fast.ops.batch_norm_act`."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor, nn

from dfad_fast.models.surgery.sums import Output
from dfad_fast.nn.batch_norm import batch_norm_like

# By exact type: a subclass may compute something else. With the dimensions that each takes.
NORMS: dict[type[nn.Module], tuple[int, ...]] = {
    nn.BatchNorm1d: (2, 3),
    nn.BatchNorm2d: (4,),
    nn.BatchNorm3d: (5,),
}


def normalized(norm: Any, x: Tensor) -> Output | None:
    """The output of ``norm``, one of NORMS, for ``x``; None where it takes no such features, and says so itself."""
    if x.dim() not in NORMS[type(norm)]:
        return None
    return Output((x.shape, x.dtype, x.device), partial(batch_norm_like, norm, x))
