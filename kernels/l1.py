r"""Absolute difference.

.. math:: L = \mathrm{reduce}\,|s - t| \qquad
          \partial L/\partial s = g\,\mathrm{sign}(s - t) = -\,\partial L/\partial t,
          \quad \mathrm{sign}(0) = \mathrm{sign}(\mathrm{NaN}) = 0
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ._device import compute_dtype, narrow, offsets, product, scalar_gradient, widen
from ._launch import launch
from ._layout import block_of, elementwise
from ._reduce import finish


@triton.jit
def signed(d, g):
    """sign(d) g as a product, so that an infinite gradient gives NaN where d is 0, as in eager mode."""
    sign = tl.where(d > 0, 1, 0) - tl.where(d < 0, 1, 0)
    return sign.to(d.dtype) * g


@triton.jit
def _loss_kernel(
    student, teacher, out, partials, sizes, student_strides, teacher_strides, out_strides, BLOCK: tl.constexpr
):
    dtype: tl.constexpr = compute_dtype(student.dtype.element_ty, teacher.dtype.element_ty)
    index = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = index < product(sizes)
    s = widen(tl.load(student + offsets(index, sizes, student_strides), mask=inside, other=0), dtype)
    t = widen(tl.load(teacher + offsets(index, sizes, teacher_strides), mask=inside, other=0), dtype)
    difference = tl.abs(s - t)
    if out is not None:
        value = narrow(difference, out.dtype.element_ty)
        tl.store(out + offsets(index, sizes, out_strides), value, mask=inside)
    else:
        tl.store(partials + tl.program_id(0), tl.sum(difference).to(tl.float64))


@triton.jit
def _gradient_kernel(
    grad,
    student,
    teacher,
    student_out,
    teacher_out,
    sizes,
    student_strides,
    teacher_strides,
    student_out_strides,
    teacher_out_strides,
    grad_strides,
    PER_ELEMENT: tl.constexpr,
    MEAN: tl.constexpr,
    BLOCK: tl.constexpr,
):
    dtype: tl.constexpr = compute_dtype(student.dtype.element_ty, teacher.dtype.element_ty)
    index = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    count = product(sizes)
    inside = index < count
    s = widen(tl.load(student + offsets(index, sizes, student_strides), mask=inside, other=0), dtype)
    t = widen(tl.load(teacher + offsets(index, sizes, teacher_strides), mask=inside, other=0), dtype)
    if PER_ELEMENT:
        g = widen(tl.load(grad + offsets(index, sizes, grad_strides), mask=inside, other=0), dtype)
    else:
        g = scalar_gradient(grad, 1.0, count, MEAN).to(dtype)
    slope = signed(s - t, g)
    if student_out is not None:
        value = narrow(slope, student_out.dtype.element_ty)
        tl.store(student_out + offsets(index, sizes, student_out_strides), value, mask=inside)
    if teacher_out is not None:
        value = narrow(-slope, teacher_out.dtype.element_ty)
        tl.store(teacher_out + offsets(index, sizes, teacher_out_strides), value, mask=inside)


def loss(student: torch.Tensor, teacher: torch.Tensor, reduction: str, out: torch.Tensor) -> None:
    """Write the loss into ``out``: 0-dim, or for ``"none"`` of the student's shape."""
    per_element = reduction == "none"
    # An output first: it is dense, so the loop follows its memory even where an input is expanded.
    sizes, strides = elementwise([*([out] if per_element else []), student, teacher])
    block = block_of(sizes, strides)
    programs = triton.cdiv(student.numel(), block)
    partials = None if per_element else torch.empty(programs, dtype=torch.float64, device=out.device)
    launch(
        _loss_kernel,
        programs,
        out,
        student,
        teacher,
        out if per_element else None,
        partials,
        sizes,
        strides[-2],
        strides[-1],
        strides[0],
        BLOCK=block,
    )
    if not per_element:
        finish(partials, None, [programs], [student.numel()], [1.0], reduction == "mean", out, None)


def gradient(
    grad: torch.Tensor,
    student: torch.Tensor,
    teacher: torch.Tensor,
    reduction: str,
    student_out: torch.Tensor | None,
    teacher_out: torch.Tensor | None,
) -> None:
    """Write the gradients that are wanted. ``grad`` has one element, or for ``"none"`` the student's shape."""
    outs = [x for x in (student_out, teacher_out) if x is not None]
    if not outs:
        return
    per_element = reduction == "none"
    sizes, strides = elementwise([*outs, student, teacher, *([grad] if per_element else [])])
    block = block_of(sizes, strides)
    launch(
        _gradient_kernel,
        triton.cdiv(student.numel(), block),
        grad,
        grad,
        student,
        teacher,
        student_out,
        teacher_out,
        sizes,
        strides[len(outs)],
        strides[len(outs) + 1],
        strides[0],
        strides[len(outs) - 1],
        strides[-1],
        PER_ELEMENT=per_element,
        MEAN=reduction == "mean",
        BLOCK=block,
    )
