"""The state to which a run returns if its query budget ends within an iteration."""

from __future__ import annotations

from typing import Any

from dfad_fast.engine.distiller import Distiller


class IterationStart:
    """Keeps the state of ``distiller`` at the start of an iteration for which the budget may not suffice.

    That is an iteration with less budget left than twice the most queries that an iteration took so far.
    """

    def __init__(self, distiller: Distiller) -> None:
        self._distiller = distiller
        self._sent = distiller.queries.count if distiller.queries else 0
        self._most = 0
        self._state: dict[str, Any] | None = None

    def begin(self) -> None:
        """Call before each iteration."""
        queries = self._distiller.queries
        if queries is None or queries.budget is None:
            return
        self._most = max(self._most, queries.count - self._sent)
        self._sent = queries.count
        is_near = not self._most or queries.budget - queries.count < 2 * self._most
        self._state = self._distiller.snapshot() if is_near else None

    def go_back(self) -> bool:
        """Restores the start of the current iteration. Returns False if its state was not kept."""
        if self._state is None:
            return False
        self._distiller.load_state_dict(self._state)
        self._state = None  # the optimizers use its tensors now
        return True
