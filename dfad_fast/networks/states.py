"""State dictionaries that may hold more than tensors: a module's extra state can be any object."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


def state_of(module: nn.Module) -> dict[str, Any]:
    """The module's state dictionary without graphs.

    Leaves out extra state that is not plain data: reading it again would run code.
    """
    state = module.state_dict()
    return {
        key: value.detach() if isinstance(value, Tensor) else value
        for key, value in state.items()
        if _is_plain(value)
    }


def load_state(module: nn.Module, state: dict[str, Any]) -> None:
    """Loads a dictionary from :func:`state_of`; extra state that it left out stays unchanged."""
    own = {key: value for key, value in module.state_dict().items() if not _is_plain(value)}
    module.load_state_dict({**own, **state})


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str | int) and _is_plain(entry) for key, entry in value.items())
    if isinstance(value, list | tuple):
        return type(value) in (list, tuple) and all(map(_is_plain, value))
    return value is None or isinstance(value, Tensor | bool | int | float | str | bytes)
