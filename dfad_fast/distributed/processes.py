"""The processes of a run that is spread over several, as torchrun starts them; everything is trivial with one.

Each holds an equal part of every batch, in the order of their ranks.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from dfad_fast.errors import DFADFastError, RunError, UsageError, first_line

# What one process does alone, such as training a teacher, may take long. On CPUs one that ends meanwhile is noticed at
# once all the same.
_PATIENCE = timedelta(days=7)
_TIMEOUT = timedelta(minutes=10)
_timeout = _TIMEOUT
_groups: dict[str, Any] = {}


class ProcessLost(RunError):
    """Another process of the run ended, or was not heard of for too long."""


def count() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if count() > 1 else 0


def is_first() -> bool:
    return rank() == 0


def join(timeout_seconds: float) -> None:
    """Joins the processes that torchrun started, where it did; gloo for the CPU and NCCL for GPUs.

    A process that is not heard of for ``timeout_seconds`` ends the run. Raises RunError where they do not meet.
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
            f"the processes of this run do not meet ({first_line(error)}): start them with torchrun"
        ) from error


def leave() -> None:
    """Undoes ``join``. A process that leaves this out may hang at its end."""
    _groups.clear()
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def meet() -> None:
    """Makes the groups in which hosts talk: before something else can go wrong in one of them."""
    if count() > 1 and not _groups:
        _groups["prompt"] = dist.new_group(backend="gloo", timeout=_timeout)
        _groups["patient"] = dist.new_group(backend="gloo", timeout=_PATIENCE)


def group(name: str) -> Any:
    """The group for what hosts tell each other, which waits for no device.

    ``prompt`` for what all do at about the same time, ``patient`` for what the others wait for one of them to do.
    """
    meet()
    return _groups[name]


def own_gpu() -> int:
    """Which of the GPUs that this process sees is its own, of the processes on this machine."""
    return int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count()


def command() -> str:
    """How the command line is called for as many processes."""
    several = count() > 1
    return f"torchrun --nproc-per-node={count()} -m dfad_fast" if several else "dfad-fast"


def own_rows(batch: int) -> slice:
    """Which rows of a whole batch are this process's."""
    size = batch // count()
    return slice(rank() * size, (rank() + 1) * size)


def as_lost(error: Exception) -> ProcessLost | None:
    """The error to raise where ``error`` means that another process ended; else None."""
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
