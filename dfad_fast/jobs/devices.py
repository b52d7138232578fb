"""The device of a run, and its memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from dfad_fast.distributed import processes
from dfad_fast.errors import UsageError, in_one_line


def choose_device(name: str) -> torch.device:
    """The device by name; ``auto`` and ``cuda`` give each process its own GPU. Raises UsageError if it is unusable."""
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
    """Raises UsageError if the networks of a run do not fit into memory."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        signs = ("allocate memory", "out of memory", "Storage size calculation overflowed")
        if not isinstance(error, MemoryError) and not any(sign in str(error) for sign in signs):
            raise
        raise UsageError(
            f"there is not enough memory for these networks ({in_one_line(error)}): lower --latent-dim or --batch-size"
        ) from error
