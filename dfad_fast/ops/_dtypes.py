"""The dtypes in which an op computes and returns; csrc/dtypes.h has the same rules for the compiled kernels."""

from __future__ import annotations

import functools
from collections.abc import Iterable

import torch


def compute_dtype(*tensors: torch.Tensor) -> torch.dtype:
    """float64 if any input is float64, otherwise float32: 16-bit values are never summed in 16 bits."""
    return torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32


def _promote(tensors: Iterable[torch.Tensor]) -> torch.dtype:
    first, *others = (t.dtype for t in tensors)
    return functools.reduce(torch.promote_types, others, first)


def result_dtype(tensors: Iterable[torch.Tensor]) -> torch.dtype:
    """The promoted dtype; under autocast at least float32, as for ``F.l1_loss``."""
    tensors = list(tensors)
    dtype, device = _promote(tensors), tensors[0].device.type
    return torch.float32 if dtype != torch.float64 and _is_autocast_enabled(device) else dtype


def _is_autocast_enabled(device: str) -> bool:
    # torch.compile of torch 2.11 cannot trace is_autocast_available. Every device that it compiles for has autocast.
    if not torch.compiler.is_compiling() and not torch.amp.is_autocast_available(device):
        return False
    return torch.is_autocast_enabled(device)


def promoted(tensors: Iterable[torch.Tensor], dtype: torch.dtype | None) -> torch.dtype:
    """The fake kernels' result dtype: the requested one (by the autocast kernel), otherwise the promoted one."""
    if dtype is None:
        return _promote(tensors)
    if dtype not in (torch.float32, torch.float64):
        raise TypeError(f"dtype must be float32 or float64, got {str(dtype).removeprefix('torch.')}")
    return dtype


def reduce(values: torch.Tensor, reduction: str) -> torch.Tensor:
    if reduction == "mean":
        return values.mean()
    return values.sum() if reduction == "sum" else values


def empty_gradients(
    student: torch.Tensor, teacher: torch.Tensor, student_grad: bool, teacher_grad: bool
) -> list[torch.Tensor]:
    """Uninitialized results of a backward op, only for the sides that require a gradient."""
    return [torch.empty_like(x) for x, wanted in ((student, student_grad), (teacher, teacher_grad)) if wanted]
