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

from dfad_fast.errors import DFADFastError, RunError, UsageError, first_line, with_kind

T = TypeVar("T")

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
    """Ends what ``join`` began, without which a process may not end in peace."""
    _groups.clear()
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def meet() -> None:
    """Makes the groups in which hosts talk: before something else can go wrong in one of them."""
    if count() > 1 and not _groups:
        _groups["prompt"] = dist.new_group(backend="gloo", timeout=_timeout)
        _groups["patient"] = dist.new_group(backend="gloo", timeout=_PATIENCE)


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
    _copy([tensor for module in modules for tensor in (*module.parameters(), *module.buffers())])


def copy_buffers_from_first(*modules: nn.Module) -> None:
    """Every process gets the first one's running statistics."""
    _copy([buffer for module in modules for buffer in module.buffers()])


@torch.no_grad()
def _copy(tensors: list[Tensor]) -> None:
    """In one message for each type."""
    for dtype in dict.fromkeys(tensor.dtype for tensor in tensors) if count() > 1 else ():
        alike = [tensor for tensor in tensors if tensor.dtype == dtype]
        flat = torch.cat([tensor.reshape(-1) for tensor in alike])
        dist.broadcast(flat, 0)
        for tensor, part in zip(alike, flat.split([t.numel() for t in alike]), strict=True):
            tensor.copy_(part.view(tensor.shape))


def any_of(*flags: bool) -> list[bool]:
    """Each flag, whether any process has set it."""
    if count() == 1:
        return list(flags)
    found = torch.tensor(flags, dtype=torch.uint8, device="cpu")
    _say("prompt", lambda group: dist.all_reduce(found, dist.ReduceOp.MAX, group=group))
    return [bool(flag) for flag in found]


def collect(value: T) -> list[T]:
    """The values of all processes, by rank."""
    values: list[Any] = [value] * count()
    if count() > 1:
        _say("prompt", lambda group: dist.all_gather_object(values, value, group=group))
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
            outcome[1] = RunError(f"process 0 failed ({with_kind(error, first_line(error))})")
    _say("patient", lambda group: dist.broadcast_object_list(outcome, 0, group=group))
    if outcome[1] is not None:
        raise failure or outcome[1]
    return outcome[0]


def wait() -> None:
    """Until all have come so far, however long the first one takes."""
    on_first(lambda: None)


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


def gather_at_first(x: Tensor) -> Tensor | None:
    """The rows of all processes in the first one, on the CPU and in x's layout; None in the others."""
    if count() == 1:
        return x
    own = x.detach().cpu()
    # Channels last by their axes, so that what is sent is contiguous.
    swapped = own.dim() == 4 and own.is_contiguous(memory_format=torch.channels_last)
    sent = own.permute(0, 2, 3, 1) if swapped else own.contiguous()
    parts = [torch.empty_like(sent) for _ in range(count())] if is_first() else None
    _say("patient", lambda group: dist.gather(sent, parts, 0, group=group))
    if parts is None:
        return None
    return torch.cat(parts).permute(0, 3, 1, 2) if swapped else torch.cat(parts)


def _say(group: str, operation: Callable[[Any], Any]) -> None:
    """Something from host to host, which waits for no device."""
    meet()
    try:
        operation(_groups[group])
    except RuntimeError as error:
        if lost := as_lost(error):
            raise lost from error
        raise


def as_lost(error: Exception) -> ProcessLost | None:
    """``error`` as what it means where it came of another process's end; else None."""
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
