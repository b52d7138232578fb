"""The modules that a run trains, and their weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from dfad_fast.networks.states import load_state, state_of


class Trained:
    """Modules by name. ``weights`` returns state dictionaries by the same names."""

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        self._modules = modules
        self._infinite_from_the_start = set(self._not_finite())

    def __contains__(self, name: str) -> bool:
        return name in self._modules

    def state_of(self, name: str) -> dict[str, Any]:
        """The state dictionary of one module."""
        return state_of(self._modules[name])

    def weights(self) -> dict[str, dict[str, Any]]:
        """The state dictionaries of all modules, by the modules' names."""
        return {name: self.state_of(name) for name in self._modules}

    def load(self, weights: Mapping[str, dict[str, Any]]) -> None:
        """Raises ValueError if ``weights`` lack a module."""
        if missing := [name.replace("_", " ") for name in self._modules if name not in weights]:
            raise ValueError(f"it has no weights of the {' and '.join(missing)} that this run trains")
        for name, module in self._modules.items():
            load_state(module, weights[name])

    def has_diverged(self) -> bool:
        """Whether a weight or statistic that was finite at first is now NaN or infinite. Waits for the device."""
        return any(name not in self._infinite_from_the_start for name in self._not_finite())

    def _not_finite(self) -> Iterator[tuple[str, str]]:
        for name, state in self.weights().items():
            for key, value in state.items():
                if isinstance(value, Tensor) and not bool(value.isfinite().all()):
                    yield name, key
