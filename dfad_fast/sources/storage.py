"""Storage for data that is too large for a source's state: a source itself knows no folder."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Protocol

from torch import Tensor

from dfad_fast.errors import UsageError


class Storage(Protocol):
    """Stores read-only sets of tensors by name."""

    @property
    def memory(self) -> float:
        """The most bytes in a source's state; larger data is stored here."""

    @property
    def is_there(self) -> bool:
        """Whether it can store anything."""

    def keep(self, name: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Stores the tensors and returns those to read from now on. Raises RunError if they cannot be stored."""

    def read(self, name: str) -> dict[str, Tensor]:
        """The tensors stored under that name. Raises RunError if they are missing or damaged."""

    def names(self) -> Collection[str]:
        """All stored names."""

    def whole_name(self, name: str) -> str:
        """The name in the run's whole storage."""

    def remove(self, name: str) -> None:
        """Removes the name, if present; its file is deleted once no saved state of the run can refer to it."""

    def saved(self) -> None:
        """Called after the run's state has been saved."""


class NoStorage:
    """The storage of a run without a folder. Everything is in the state, at most ``memory`` bytes."""

    is_there = False

    def __init__(self, memory: float = math.inf) -> None:
        self.memory = memory

    def keep(self, name: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        raise UsageError(f"cannot keep {name}: the run has no folder: give one, as out=")

    def read(self, name: str) -> dict[str, Tensor]:
        raise UsageError(f"{name} is stored in the run's folder, but there is none: give one, as out=")

    def names(self) -> Collection[str]:
        return ()

    def whole_name(self, name: str) -> str:
        return name

    def remove(self, name: str) -> None:
        """There is nothing."""

    def saved(self) -> None:
        """There is nothing."""


class Part:
    """A part of ``storage`` for one of several sources; it adds ``prefix`` to their names."""

    def __init__(self, storage: Storage, prefix: str) -> None:
        self._storage = storage
        self._prefix = f"{prefix}-"

    @property
    def memory(self) -> float:
        return self._storage.memory

    @property
    def is_there(self) -> bool:
        return self._storage.is_there

    def keep(self, name: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return self._storage.keep(self._prefix + name, tensors)

    def read(self, name: str) -> dict[str, Tensor]:
        return self._storage.read(self._prefix + name)

    def names(self) -> Collection[str]:
        names = self._storage.names()
        return [name.removeprefix(self._prefix) for name in names if name.startswith(self._prefix)]

    def whole_name(self, name: str) -> str:
        return self._storage.whole_name(self._prefix + name)

    def remove(self, name: str) -> None:
        self._storage.remove(self._prefix + name)

    def saved(self) -> None:
        self._storage.saved()
