"""Collectives with gradients, for losses that are averaged over the processes as DistributedDataParallel does."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from dfad_fast.distributed.processes import count, own_rows, rank


def mean(x: Tensor) -> Tensor:
    """The elementwise mean of ``x`` over the processes, in the shape of ``x``. Differentiable."""
    return x if count() == 1 else _Mean.apply(x)


def gather(x: Tensor) -> Tensor:
    """The rows of all processes, by rank: [b, ...] -> [B, ...]. Differentiable."""
    return x if count() == 1 else _Gather.apply(x)


def partners(x: Tensor, perm: Tensor) -> Tensor:
    """The partners of this process's rows, from all processes' x [b, ...]: ``whole[perm][own]`` [b, ...].

    ``perm`` [B] is the permutation of the whole batch, the same in every process. Each row is sent once, to the process
    that needs it. Differentiable; waits for the device of ``perm``.
    """
    if count() == 1:
        return x[perm]
    size, whole = len(x), perm.cpu()
    wanted = whole.view(count(), size)  # one row per process that needs them
    owner = wanted.div(size, rounding_mode="floor")
    order = owner.argsort(dim=1, stable=True)
    to_send = [row[row.div(size, rounding_mode="floor") == rank()] - rank() * size for row in wanted]
    received = owner[rank()].bincount(minlength=count()).tolist()
    rows = torch.cat(to_send).to(x.device)
    arrived = _Exchange.apply(x[rows], [len(row) for row in to_send], received)
    return arrived[order[rank()].argsort().to(x.device)]


# torch.distributed.nn.functional is not used: since torch 2.13 each of its functions warns that it is deprecated, and
# the replacement that it names is private.
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
    """Exchanges rows between processes; ``sent`` and ``received`` are numbers of rows per process."""

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
