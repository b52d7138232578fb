"""Where a source keeps what is too much for its state: a source itself knows no folder."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Protocol

from torch import Tensor

from dfad_fast.errors import UsageError


class Storage(Protocol):
    """Keeps sets of tensors by name, which nothing writes to."""

    @property
    def memory(self) -> float:
        """Bytes that a source may have in its state: what is larger is kept here."""

    @property
    def is_there(self) -> bool:
        """Whether anything can be kept here."""

    def keep(self, name: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The same tensors, as they are to be read from now on. Raises RunError where they cannot be kept."""

    def read(self, name: str) -> dict[str, Tensor]:
        """What is kept by that name. Raises RunError where it is missing or damaged."""

    def names(self) -> Collection[str]:
        """All that it holds."""

    def whole_name(self, name: str) -> str:
        """What it is called in the whole of the run's storage."""

    def remove(self, name: str) -> None:
        """Lets go of it, if it is there: for good once no kept state of the run can name it."""

    def saved(self) -> None:
        """Comes after the run's state has been saved."""


class NoStorage:
    """That of a run without a folder. All is in the state, ``memory`` bytes of it at most."""

    is_there = False

    def __init__(self, memory: float = math.inf) -> None:
        self.memory = memory

    def keep(self, name: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        raise UsageError(f"cannot keep {name}: the run has no folder: give one, as out=")

    def read(self, name: str) -> dict[str, Tensor]:
        raise UsageError(f"{name} lies in the run's folder, and there is none: give one, as out=")

    def names(self) -> Collection[str]:
        return ()

    def whole_name(self, name: str) -> str:
        return name

    def remove(self, name: str) -> None:
        """There is nothing."""

    def saved(self) -> None:
        """There is nothing."""


class Part:
    """A part of ``storage`` for one of several sources, whose names it puts ``prefix`` before."""

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
