"""The processes of a run, as torchrun starts them. With a single process every function here is trivial.

Each process holds an equal part of every batch, in the order of the ranks.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from dfad_fast.errors import DFADFastError, RunError, UsageError, first_line

# Work that one process does alone, such as training a teacher, may take long. On CPUs a process that ends meanwhile is
# still noticed at once.
_PATIENCE = timedelta(days=7)
_TIMEOUT = timedelta(minutes=10)
_timeout = _TIMEOUT
_groups: dict[str, Any] = {}


class ProcessLost(RunError):
    """Another process of the run ended, or did not respond within the timeout."""


def count() -> int:
    """The number of the run's processes; 1 without torch.distributed."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's number, from 0."""
    return dist.get_rank() if count() > 1 else 0


def is_first() -> bool:
    """Whether this is the process that writes files and prints."""
    return rank() == 0


def join(timeout_seconds: float) -> None:
    """Joins the process group if torchrun started this process, by gloo on the CPU and by NCCL on GPUs.

    The run ends if a process does not respond for ``timeout_seconds``.

    Raises:
        UsageError: the timeout is not positive.
        RunError: the processes cannot connect to each other.
    """
    global _timeout
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or dist.is_initialized():
        return
    if not timeout_seconds > 0:
        raise UsageError(f"--process-timeout must be more than 0 seconds, got {timeout_seconds}")
    backend = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(own_gpu())
        backend = "cpu:gloo,cuda:nccl"
    try:
        _timeout = timedelta(seconds=timeout_seconds)
        dist.init_process_group(backend, timeout=_timeout)
        meet()
    except (RuntimeError, ValueError) as error:
        raise RunError(
            f"the processes of this run cannot connect to each other ({first_line(error)}): start them with torchrun"
        ) from error


def leave() -> None:
    """Undoes ``join``. Without this call a process may hang when it exits."""
    _groups.clear()
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def meet() -> None:
    """Creates the groups for communication between hosts, before anything else can fail in one of the processes."""
    if count() > 1 and not _groups:
        _groups["prompt"] = dist.new_group(backend="gloo", timeout=_timeout)
        _groups["patient"] = dist.new_group(backend="gloo", timeout=_PATIENCE)


def group(name: str) -> Any:
    """The group of this name for communication between hosts, which never waits for a device.

    ``prompt`` is for calls that all processes make at about the same time, ``patient`` for calls in which the others
    wait for one process to finish its work.
    """
    meet()
    return _groups[name]


def own_gpu() -> int:
    """Index of this process's GPU among the visible ones, by its rank on this machine."""
    return int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count()


def command() -> str:
    """The start of a command line that runs the same number of processes."""
    several = count() > 1
    return f"torchrun --nproc-per-node={count()} -m dfad_fast" if several else "dfad-fast"


def own_rows(batch: int) -> slice:
    """This process's rows of a whole batch."""
    size = batch // count()
    return slice(rank() * size, (rank() + 1) * size)


def as_lost(error: Exception) -> ProcessLost | None:
    """The error to raise if ``error`` means that another process ended, otherwise None."""
    if isinstance(error, ProcessLost):
        return error
    own = not isinstance(error, RuntimeError) or isinstance(error, DFADFastError)
    if own or count() == 1 or not any(sign in str(error).lower() for sign in _SIGNS):
        return None
    reason = first_line(error).split("] ", 1)[-1].split(". ", 1)[0]
    return ProcessLost(f"process {rank()} of {count()} lost contact with another one ({reason[:150]})")


_SIGNS = (
    "connection closed by peer",
    "connection reset by peer",
    "connection refused",
    "broken pipe",
    "timed out",
    "timeout",
    "remote process",
)
