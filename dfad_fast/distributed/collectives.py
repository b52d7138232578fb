"""Collectives without gradients: exchange of flags, values and weights, and work that only the first process does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from dfad_fast.distributed.processes import as_lost, count, group, is_first
from dfad_fast.errors import DFADFastError, RunError, UsageError, first_line, with_kind

T = TypeVar("T")


def copy_from_first(*modules: nn.Module) -> None:
    """Every process gets the weights and running statistics of the first one."""
    _copy([tensor for module in modules for tensor in (*module.parameters(), *module.buffers())])


def copy_buffers_from_first(*modules: nn.Module) -> None:
    """Every process gets the running statistics of the first one."""
    _copy([buffer for module in modules for buffer in module.buffers()])


@torch.no_grad()
def _copy(tensors: list[Tensor]) -> None:
    """Copies with one message per dtype."""
    for dtype in dict.fromkeys(tensor.dtype for tensor in tensors) if count() > 1 else ():
        alike = [tensor for tensor in tensors if tensor.dtype == dtype]
        flat = torch.cat([tensor.reshape(-1) for tensor in alike])
        dist.broadcast(flat, 0)
        for tensor, part in zip(alike, flat.split([t.numel() for t in alike]), strict=True):
            tensor.copy_(part.view(tensor.shape))


def any_of(*flags: bool) -> list[bool]:
    """For each flag, whether any process has set it."""
    if count() == 1:
        return list(flags)
    found = torch.tensor(flags, dtype=torch.uint8, device="cpu")
    _say("prompt", lambda members: dist.all_reduce(found, dist.ReduceOp.MAX, group=members))
    return [bool(flag) for flag in found]


def collect(value: T) -> list[T]:
    """The values of all processes, by rank."""
    values: list[Any] = [value] * count()
    if count() > 1:
        _say("prompt", lambda members: dist.all_gather_object(values, value, group=members))
    return values


def on_first(function: Callable[[], T]) -> T:
    """Calls ``function`` in the first process only. Every process gets its result or its error."""
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
    _say("patient", lambda members: dist.broadcast_object_list(outcome, 0, group=members))
    if outcome[1] is not None:
        raise failure or outcome[1]
    return outcome[0]


def wait() -> None:
    """Waits until all processes have called this, however long the first one takes."""
    on_first(lambda: None)


def first_then_others(function: Callable[[], T]) -> T:
    """Calls ``function`` in every process, in the first one before the others start. So it can leave files for them."""
    made: list[T] = []
    on_first(lambda: made.append(function()))
    return made[0] if made else function()


def refuse_differences(facts: dict[str, Any]) -> None:
    """Raises UsageError in every process if some fact differs between processes."""
    found = collect(facts)
    differing = [name for name in facts if any(other.get(name) != found[0].get(name) for other in found)]
    if differing:
        raise UsageError(
            f"the processes of this run were started with different settings ({', '.join(differing)}): "
            "start all of them with the same command, files and versions"
        )


def gather_at_first(x: Tensor) -> Tensor | None:
    """In the first process the rows [B, ...] of all, on the CPU in x's memory layout; None in the others."""
    if count() == 1:
        return x
    own = x.detach().cpu()
    # For channels_last the axes are permuted, so that the sent tensor is contiguous.
    swapped = own.dim() == 4 and own.is_contiguous(memory_format=torch.channels_last)
    sent = own.permute(0, 2, 3, 1) if swapped else own.contiguous()
    parts = [torch.empty_like(sent) for _ in range(count())] if is_first() else None
    _say("patient", lambda members: dist.gather(sent, parts, 0, group=members))
    if parts is None:
        return None
    return torch.cat(parts).permute(0, 3, 1, 2) if swapped else torch.cat(parts)


def _say(name: str, operation: Callable[[Any], Any]) -> None:
    """Runs a collective between hosts in the group of this name, without waiting for a device."""
    members = group(name)
    try:
        operation(members)
    except RuntimeError as error:
        if lost := as_lost(error):
            raise lost from error
        raise
