"""Lets one step at a time use a network: two threads' trainers would mix up its hooks, modes and frozen weights."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from dfad_fast.errors import UsageError
from dfad_fast.models.reading.check import DROPOUT, owns_tensors

_lock = threading.Lock()
_in_use: dict[int, int] = {}


@contextmanager
def used_alone(*networks: nn.Module) -> Iterator[None]:
    """Raises UsageError if another thread uses one of the networks, or one that shares layers with them.

    Networks may share an activation without weights: it keeps no state of a step.
    """
    thread = threading.get_ident()
    parts = {
        id(module)
        for network in networks
        for module in network.modules()
        if module is network or owns_tensors(module) or isinstance(module, DROPOUT)
    }
    with _lock:
        if any(_in_use.get(part, thread) != thread for part in parts):
            raise UsageError(
                "another thread's trainer is using one of these networks: give each trainer its own networks, "
                "such as by copy.deepcopy"
            )
        entered = [part for part in parts if part not in _in_use]
        _in_use.update(dict.fromkeys(entered, thread))
    try:
        yield
    finally:
        with _lock:
            for part in entered:
                del _in_use[part]
