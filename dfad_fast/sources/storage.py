"""Where a source keeps what it does not hold in its state: a source itself knows no folder."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from torch import Tensor


class Storage(Protocol):
    """Keeps sets of tensors by name. None is written twice."""

    def keep(self, name: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The same tensors, as they are to be read from now on. Raises RunError where they cannot be kept."""

    def read(self, name: str) -> dict[str, Tensor]:
        """What is kept by that name. Raises RunError where it is missing or damaged."""

    def names(self) -> Collection[str]:
        """All that it holds."""

    def remove(self, name: str) -> None:
        """Lets go of it, if it is there."""
