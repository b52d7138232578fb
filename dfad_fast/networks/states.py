"""State dictionaries that may hold more than tensors: modules with extra state put what they like into theirs."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


def state_of(module: nn.Module) -> dict[str, Any]:
    """Its state dictionary without graphs. Extra state that is no plain data, and so cannot be read again without
    running code, is left out."""
    state = module.state_dict()
    return {
        key: value.detach() if isinstance(value, Tensor) else value
        for key, value in state.items()
        if _is_plain(value)
    }


def load_state(module: nn.Module, state: dict[str, Any]) -> None:
    """Loads what :func:`state_of` gave; extra state that it left out stays as it is."""
    own = {key: value for key, value in module.state_dict().items() if not _is_plain(value)}
    module.load_state_dict({**own, **state})


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str | int) and _is_plain(entry) for key, entry in value.items())
    if isinstance(value, list | tuple):
        return type(value) in (list, tuple) and all(map(_is_plain, value))
    return value is None or isinstance(value, Tensor | bool | int | float | str | bytes)
