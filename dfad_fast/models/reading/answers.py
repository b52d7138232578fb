"""Finds the logits in a network's answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor


def find_logits(answer: Any, batch: int) -> Tensor | None:
    """The logits [batch, classes] in a tensor, mapping, tuple, or object with fields; None if there are none.

    Prefers an entry ``logits``, otherwise the first tensor of that shape: auxiliary heads follow the main one. A tensor
    by itself, or as the entry ``logits``, may have further dimensions of size 1, such as [batch, classes, 1, 1] of a
    convolution. In other entries such tensors are features.
    """
    if isinstance(answer, Tensor):
        return _without_ones(answer, batch)
    if isinstance(answer, Mapping):
        named, values = answer.get("logits"), list(answer.values())
    elif isinstance(answer, tuple | list):
        named, values = getattr(answer, "logits", None), list(answer)
    else:
        named, values = getattr(answer, "logits", None), list(getattr(answer, "__dict__", {}).values())
    if isinstance(named, Tensor) and (logits := _without_ones(named, batch)) is not None:
        return logits
    return next((value for value in values if isinstance(value, Tensor) and _are_logits(value, batch)), None)


def _are_logits(values: Tensor, batch: int) -> bool:
    return values.dim() == 2 and values.shape[0] == batch


def _without_ones(values: Tensor, batch: int) -> Tensor | None:
    if values.dim() > 2 and values.shape[2:].numel() == 1:
        values = values.flatten(1)
    return values if _are_logits(values, batch) else None
