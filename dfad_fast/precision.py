"""The precision in which statistics and losses are computed."""

from __future__ import annotations

from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """``x``, in float32 where its dtype is narrower."""
    return x.float() if x.dtype.itemsize < 4 else x
