"""Mixtures of a batch, also of one that is spread over several processes."""

from __future__ import annotations

import torch
from torch import Tensor

from dfad_fast import ops
from dfad_fast.distributed import differentiable, processes
from dfad_fast.precision import at_least_float32


def mix(x: Tensor, lam: Tensor, perm: Tensor) -> Tensor:
    """``lam x + (1-lam) x[perm]``, see :func:`dfad_fast.ops.mixup`; with lam and perm of the whole batch and the rows
    of this process's part of it."""
    if processes.count() == 1:
        return ops.mixup(x, lam, perm)
    wide = at_least_float32(x)
    mixed = torch.lerp(at_least_float32(differentiable.partners(x, perm)), wide, _own(lam, wide)).to(x.dtype)
    # What came from others has no layout of its own.
    innermost = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
    return mixed.contiguous(memory_format=torch.channels_last) if innermost else mixed


def interpolated_l1(student: Tensor, teacher: Tensor, lam: Tensor, perm: Tensor) -> Tensor:
    """Mean ``|student - mix(teacher)|``, see :func:`dfad_fast.ops.interpolated_l1`; of this process's rows."""
    if processes.count() == 1:
        return ops.interpolated_l1(student, teacher, lam, perm)
    return ops.l1_discrepancy(student, mix(teacher, lam, perm))


def _own(lam: Tensor, x: Tensor) -> Tensor:
    """This process's rows of ``lam``, if it has rows, to be multiplied with ``x``."""
    if lam.dim():
        lam = lam[processes.own_rows(len(lam))]
        lam = lam.reshape(-1, *[1] * (x.dim() - 1))
    return lam.to(x.dtype)
