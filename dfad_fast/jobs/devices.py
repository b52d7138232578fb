"""The device that a run is on, and its memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from dfad_fast.distributed import processes
from dfad_fast.errors import UsageError, in_one_line


def choose_device(name: str) -> torch.device:
    """``auto`` and ``cuda`` are a GPU of each process's own. Raises UsageError where it cannot be used."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and processes.count() > 1:
        name = f"cuda:{processes.own_gpu()}"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
        torch.Generator(device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(
            f"device {name!r} cannot be used ({str(error).splitlines()[0]}): try --device cpu"
        ) from error
    return device


@contextmanager
def fitting_into_memory() -> Iterator[None]:
    """Raises UsageError where the networks of a run are more than there is memory for."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        signs = ("allocate memory", "out of memory", "Storage size calculation overflowed")
        if not isinstance(error, MemoryError) and not any(sign in str(error) for sign in signs):
            raise
        raise UsageError(
            f"there is not enough memory for these networks ({in_one_line(error)}): lower --latent-dim or --batch-size"
        ) from error
