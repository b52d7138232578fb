"""The order in which a student goes through a set of images."""

from __future__ import annotations

import numpy as np


class Epochs:
    """Numbers below a size in shuffled order, each once before any repeats; ``restart`` begins a new order.

    Its state is only two numbers: each order follows from ``seed`` and the order's number.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._number = 0
        self._position = 0
        self._order: np.ndarray | None = None

    def restart(self) -> None:
        """Begins a new order after the set has changed."""
        self._number += 1
        self._position = 0
        self._order = None

    def take(self, size: int, count: int) -> np.ndarray:
        """The next ``count`` numbers below ``size``, which must not change before ``restart``."""
        taken: list[np.ndarray] = []
        while count:
            if self._position == size:
                self.restart()
            if self._order is None:
                self._order = np.random.default_rng([self._seed, 3, self._number]).permutation(size)
            taken.append(self._order[self._position : self._position + count])
            self._position += len(taken[-1])
            count -= len(taken[-1])
        return np.concatenate(taken)

    def state_dict(self) -> dict[str, int]:
        return {"number": self._number, "position": self._position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self._number, self._position = state["number"], state["position"]
        self._order = None
