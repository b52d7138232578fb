"""Mixtures of a batch, which several processes may share."""

from __future__ import annotations

import torch
from torch import Tensor

from dfad_fast import ops
from dfad_fast.distributed import differentiable, processes
from dfad_fast.precision import at_least_float32


def mix(x: Tensor, lam: Tensor, perm: Tensor) -> Tensor:
    """``lam x + (1-lam) x[perm]``, see :func:`dfad_fast.ops.mixup`.

    ``x`` [b, ...] are this process's rows, and so is the result. ``lam`` and ``perm`` [B] are the whole batch's; one
    ``lam`` [] may serve all images. Gradients flow to ``x`` and ``lam``.
    """
    if _by_kernel(lam):
        return ops.mixup(x, lam, perm)
    wide = at_least_float32(x)
    mixed = torch.lerp(at_least_float32(differentiable.partners(x, perm)), wide, _own(lam, wide)).to(x.dtype)
    # Rows from other processes arrive without the batch's memory layout.
    innermost = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
    return mixed.contiguous(memory_format=torch.channels_last) if innermost else mixed


def interpolated_l1(student: Tensor, teacher: Tensor, lam: Tensor, perm: Tensor) -> Tensor:
    """Mean ``|student - mix(teacher)|`` over this process's rows, see :func:`dfad_fast.ops.interpolated_l1`.

    ``student`` and ``teacher`` are this process's logits [b, classes]; ``lam`` and ``perm`` as for :func:`mix`.
    """
    if _by_kernel(lam):
        return ops.interpolated_l1(student, teacher, lam, perm)
    return ops.l1_discrepancy(student, mix(teacher, lam, perm))


def _by_kernel(lam: Tensor) -> bool:
    """Whether the fused ops can mix: they need the whole batch, and have no gradient for ``lam``."""
    return processes.count() == 1 and not lam.requires_grad


def _own(lam: Tensor, x: Tensor) -> Tensor:
    """This process's rows of ``lam``, if it has one per image, shaped to multiply ``x``."""
    if lam.dim():
        lam = lam[processes.own_rows(len(lam))]
        lam = lam.reshape(-1, *[1] * (x.dim() - 1))
    return lam.to(x.dtype)
