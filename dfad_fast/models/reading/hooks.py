"""The tensors in a module's call for a hook, whatever the form of the call and the result."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor


def first_input(inputs: tuple[Any, ...], keywords: Mapping[str, Any]) -> Tensor | None:
    """The first tensor a module is called with, by position or by keyword; None if there is none."""
    return _first((*inputs, *keywords.values()))


def first_output(output: Any) -> Tensor | None:
    """The tensor a module returns, or the first one in the tuple, list or dictionary that it returns."""
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping):
        return _first(output.values())
    return _first(output) if isinstance(output, (tuple, list)) else None


def _first(values: Iterable[Any]) -> Tensor | None:
    return next((value for value in values if isinstance(value, Tensor)), None)
