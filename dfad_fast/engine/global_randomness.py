"""The global sources of randomness of a process. A user's networks may draw from them, for dropout for example."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from dfad_fast.distributed import processes


def global_state(device: torch.device) -> dict[str, Any]:
    """The states of torch (including the device), numpy and Python, as plain values and tensors."""
    numpy: Any = np.random.get_state(legacy=False)
    state: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "numpy": {
            **numpy,
            "state": {**numpy["state"], "key": torch.from_numpy(numpy["state"]["key"].astype(np.int64))},
        },
        "python": random.getstate(),
    }
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def restore_global_state(state: dict[str, Any], device: torch.device) -> None:
    """Restores the result of :func:`global_state`."""
    torch.set_rng_state(state["torch"])
    numpy = state["numpy"]
    np.random.set_state(
        {**numpy, "state": {**numpy["state"], "key": numpy["state"]["key"].numpy().astype(np.uint32)}}
    )
    version, values, gauss = state["python"]
    random.setstate((version, tuple(values), gauss))
    if "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)


@contextmanager
def undisturbed(device: torch.device) -> Iterator[None]:
    """Restores the global sources after the block, so that what it draws does not change later draws."""
    state = global_state(device)
    try:
        yield
    finally:
        restore_global_state(state, device)


def differ_between_processes() -> None:
    """Reseeds the global sources in every process but the first, so that not all drop the same neurons."""
    if processes.is_first():
        return
    seeds = np.random.SeedSequence([torch.initial_seed(), processes.rank()]).generate_state(3)
    torch.manual_seed(int(seeds[0]))
    np.random.seed(seeds[1])
    random.seed(int(seeds[2]))
