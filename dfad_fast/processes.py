"""The processes of a run that is spread over several, as torchrun starts them; everything is trivial with one.

Each holds an equal part of every batch, in the order of their ranks. What has gradients is differentiated for losses
that are averaged over the processes, as torch's DistributedDataParallel averages them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from dfad_fast.errors import DFADFastError, RunError, UsageError

T = TypeVar("T")

# What one process waits for another to do alone, such as training a teacher, may take long. One that ends is noticed
# at once all the same.
_PATIENCE = timedelta(days=7)
_control_group: Any = None


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
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or dist.is_initialized():
        return
    if not timeout_seconds > 0:
        raise UsageError(f"--process-timeout must be more than 0 seconds, got {timeout_seconds}")
    backend = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank() % torch.cuda.device_count())
        backend = "cpu:gloo,cuda:nccl"
    try:
        dist.init_process_group(backend, timeout=timedelta(seconds=timeout_seconds))
    except (RuntimeError, ValueError) as error:
        raise RunError(
            f"the processes of this run do not meet ({_first_line(error)}): start them with torchrun"
        ) from error


def leave() -> None:
    """Ends what ``join`` began, without which a process may not end in peace."""
    global _control_group
    if dist.is_available() and dist.is_initialized():
        _control_group = None
        dist.destroy_process_group()


def local_rank() -> int:
    """Among the processes on this machine."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def local_count() -> int:
    """Processes on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def own_rows(batch: int) -> slice:
    """Which rows of a whole batch are this process's."""
    size = batch // count()
    return slice(rank() * size, (rank() + 1) * size)


def mean(x: Tensor) -> Tensor:
    """The mean of ``x`` over the processes, differentiable."""
    return x if count() == 1 else _Mean.apply(x)


def gather(x: Tensor) -> Tensor:
    """The rows of all processes, differentiable: [b, ...] -> [B, ...]."""
    return x if count() == 1 else _Gather.apply(x)


def partners(x: Tensor, perm: Tensor) -> Tensor:
    """Of rows that are spread over the processes, those that go with this process's own: ``whole[perm][own]``.

    ``perm`` [B] is the whole batch's permutation, the same in every process. Each row is sent once, to the process that
    needs it. Differentiable; waits for the device that ``perm`` is on.
    """
    if count() == 1:
        return x[perm]
    size, whole = len(x), perm.cpu()
    wanted = whole.view(count(), size)  # by the process that wants them
    owner = wanted.div(size, rounding_mode="floor")
    order = owner.argsort(dim=1, stable=True)
    to_send = [row[row.div(size, rounding_mode="floor") == rank()] - rank() * size for row in wanted]
    received = owner[rank()].bincount(minlength=count()).tolist()
    rows = torch.cat(to_send).to(x.device)
    arrived = _Exchange.apply(x[rows], [len(row) for row in to_send], received)
    return arrived[order[rank()].argsort().to(x.device)]


class _Mean(torch.autograd.Function):
    @staticmethod
    def forward(_ctx: Any, x: Tensor) -> Tensor:
        return _sum(x) / count()

    @staticmethod
    def backward(_ctx: Any, grad: Tensor) -> Tensor:
        return _sum(grad) / count()


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(_ctx: Any, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(count())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(_ctx: Any, grad: Tensor) -> Tensor:
        return _sum(grad)[own_rows(len(grad))]


class _Exchange(torch.autograd.Function):
    """Rows to other processes and from them; the numbers of both are given by process."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, sent: list[int], received: list[int]) -> Tensor:
        ctx.sent, ctx.received = sent, received
        return _exchange(x, sent, received)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return _exchange(grad, ctx.received, ctx.sent), None, None


def _sum(x: Tensor) -> Tensor:
    total = x.detach().clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total


def _exchange(x: Tensor, sent: list[int], received: list[int]) -> Tensor:
    arrived = x.new_empty(sum(received), *x.shape[1:])
    dist.all_to_all_single(arrived, x.contiguous(), received, sent)
    return arrived


def copy_from_first(*modules: nn.Module) -> None:
    """Every process gets the first one's weights and running statistics."""
    if count() > 1:
        for module in modules:
            for tensor in (*module.parameters(), *module.buffers()):
                dist.broadcast(tensor.detach(), 0)


def any_of(*flags: bool) -> list[bool]:
    """Each flag, whether any process has set it."""
    if count() == 1:
        return list(flags)
    found = torch.tensor(flags, dtype=torch.uint8)
    _controlled(lambda group: dist.all_reduce(found, dist.ReduceOp.MAX, group=group))
    return [bool(flag) for flag in found]


def collect(value: T) -> list[T]:
    """The values of all processes, by rank."""
    values: list[Any] = [value] * count()
    if count() > 1:
        _controlled(lambda group: dist.all_gather_object(values, value, group=group))
    return values


def on_first(function: Callable[[], T]) -> T:
    """What ``function`` returns in the first process, where alone it is called; every process gets it, or its error."""
    if count() == 1:
        return function()
    outcome: list[Any] = [None, None]
    failure: Exception | None = None
    if is_first():
        try:
            outcome[0] = function()
        except DFADFastError as error:
            outcome[1] = error
        except Exception as error:
            failure = error
            outcome[1] = RunError(f"process 0 failed ({type(error).__name__}: {_first_line(error)})")
    _controlled(lambda group: dist.broadcast_object_list(outcome, 0, group=group))
    if outcome[1] is not None:
        raise failure or outcome[1]
    return outcome[0]


def first_then_others(function: Callable[[], T]) -> T:
    """``function`` of each process, the first one's before all others begin, as where it leaves files for them."""
    made: list[T] = []
    on_first(lambda: made.append(function()))
    return made[0] if made else function()


def refuse_differences(facts: dict[str, Any]) -> None:
    """Raises UsageError in every process where some fact is not the same in all."""
    found = collect(facts)
    differing = [name for name in facts if any(other.get(name) != found[0].get(name) for other in found)]
    if differing:
        raise UsageError(
            f"the processes of this run were started with different settings ({', '.join(differing)}): "
            "give all of them the same command, the same files and the same versions"
        )


def _controlled(operation: Callable[[Any], Any]) -> None:
    """Something said from host to host, which waits for no device."""
    global _control_group
    try:
        if _control_group is None:
            _control_group = dist.new_group(backend="gloo", timeout=_PATIENCE)
        operation(_control_group)
    except RuntimeError as error:
        raise as_lost(error) or error from error


def as_lost(error: Exception) -> ProcessLost | None:
    """``error`` as what it means where it came of another process's end; else None."""
    if isinstance(error, ProcessLost):
        return error
    text = str(error)
    if count() == 1 or not (isinstance(error, dist.DistError) or any(sign in text for sign in _SIGNS)):
        return None
    reason = _first_line(error).split("] ", 1)[-1].split(". ", 1)[0]
    return ProcessLost(f"process {rank()} of {count()} lost contact with another one ({reason[:150]})")


_SIGNS = ("gloo", "Connection closed by peer", "Connection reset by peer", "NCCL")


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
