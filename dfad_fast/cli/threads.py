"""The CPU threads of this process."""

from __future__ import annotations

import os
import warnings

from dfad_fast.errors import DFADFastWarning
from dfad_fast.settings import Limits

THREADS = Limits(1, 1024)
# Iterations of GNU OpenMP's spin loop before a waiting thread sleeps, instead of 300,000. docs/guides/speed.md has the
# gain.
_SPINS = "1000"


def wait_briefly() -> None:
    """Lets OpenMP's waiting threads sleep soon, so that runs that share cores do not slow each other down.

    Keeps values already set in the environment. Affects torch only if torch is imported later.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"}.intersection(os.environ):
        os.environ["GOMP_SPINCOUNT"] = _SPINS


def set_threads(threads: int | None) -> None:
    """Sets torch's threads; None means all cores, shared by the processes on this machine."""
    local_processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if threads is None and local_processes > 1:
        # torchrun's own default is one thread for each.
        threads = max(1, _cores() // local_processes)
    if threads is None:
        return
    THREADS.refuse("--threads", threads)  # a run's config.yaml may contain any number
    if threads * local_processes > _cores():
        of_each = f" in each of {local_processes} processes" if local_processes > 1 else ""
        warnings.warn(
            f"{threads} threads{of_each} share {_cores()} cores and wait for each other: lower --threads",
            DFADFastWarning,
            stacklevel=2,
        )
    import torch

    torch.set_num_threads(threads)


def _cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
