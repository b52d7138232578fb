"""Finds the logits in a network's answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor


def find_logits(answer: Any, batch: int) -> Tensor | None:
    """The logits [batch, classes] in a tensor, mapping, tuple, or object with fields; None if there are none.

    Prefers an entry ``logits``, otherwise the first tensor of that shape: auxiliary heads follow the main one.
    """
    if isinstance(answer, Tensor):
        return answer if answer.dim() == 2 and answer.shape[0] == batch else None
    if isinstance(answer, Mapping):
        named, values = answer.get("logits"), list(answer.values())
    elif isinstance(answer, tuple | list):
        named, values = getattr(answer, "logits", None), list(answer)
    else:
        named, values = getattr(answer, "logits", None), list(getattr(answer, "__dict__", {}).values())
    for value in (named, *values):
        if isinstance(value, Tensor) and (found := find_logits(value, batch)) is not None:
            return found
    return None
