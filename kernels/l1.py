r"""Absolute difference.

.. math:: L = \mathrm{reduce}\,|s - t| \qquad
          \partial L/\partial s = g\,\mathrm{sign}(s - t) = -\,\partial L/\partial t,
          \quad \mathrm{sign}(0) = \mathrm{sign}(\mathrm{NaN}) = 0

The loss's pass can keep that sign in two planes of bits, uint8 ``[2, bytes]``, each in one piece: where the student is
at least its teacher, and where it is at most. The gradient's pass reads those in place of both.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ._device import compute_dtype, narrow, offsets, product, scalar_gradient, widen
from ._launch import launch
from ._layout import block_of, elementwise, memory_order
from ._reduce import finish
from ._signs import load_bits, rows_of_eight, store_bits


@triton.jit
def signed(d, g):
    """sign(d) g as a product, so that an infinite gradient gives NaN where d is 0, as in eager mode."""
    sign = tl.where(d > 0, 1, 0) - tl.where(d < 0, 1, 0)
    return sign.to(d.dtype) * g


@triton.jit
def _loss_kernel(
    student,
    teacher,
    out,
    partials,
    signs,
    plane,
    sizes,
    student_strides,
    teacher_strides,
    out_strides,
    BLOCK: tl.constexpr,
):
    dtype: tl.constexpr = compute_dtype(student.dtype.element_ty, teacher.dtype.element_ty)
    count = product(sizes)
    row, index, inside = rows_of_eight(tl.program_id(0), count, BLOCK)
    s = widen(tl.load(student + offsets(index, sizes, student_strides), mask=inside, other=0), dtype)
    t = widen(tl.load(teacher + offsets(index, sizes, teacher_strides), mask=inside, other=0), dtype)
    difference = tl.abs(s - t)
    if out is not None:
        value = narrow(difference, out.dtype.element_ty)
        tl.store(out + offsets(index, sizes, out_strides), value, mask=inside)
    else:
        tl.store(partials + tl.program_id(0), tl.sum(difference).to(tl.float64))
    if signs is not None:
        store_bits(signs, row, s >= t, inside, count)
        store_bits(signs + plane, row, s <= t, inside, count)


@triton.jit
def _gradient_kernel(
    grad,
    signs,
    plane,
    student_out,
    teacher_out,
    sizes,
    student_out_strides,
    teacher_out_strides,
    grad_strides,
    DTYPE: tl.constexpr,
    PER_ELEMENT: tl.constexpr,
    MEAN: tl.constexpr,
    BLOCK: tl.constexpr,
):
    count = product(sizes)
    row, index, inside = rows_of_eight(tl.program_id(0), count, BLOCK)
    at_least = load_bits(signs, row, count)
    at_most = load_bits(signs + plane, row, count)
    if PER_ELEMENT:
        g = widen(tl.load(grad + offsets(index, sizes, grad_strides), mask=inside, other=0), DTYPE)
    else:
        g = scalar_gradient(grad, 1.0, count, MEAN).to(DTYPE)
    slope = (at_least.to(tl.int32) - at_most.to(tl.int32)).to(DTYPE) * g
    if student_out is not None:
        value = narrow(slope, student_out.dtype.element_ty)
        tl.store(student_out + offsets(index, sizes, student_out_strides), value, mask=inside)
    if teacher_out is not None:
        value = narrow(-slope, teacher_out.dtype.element_ty)
        tl.store(teacher_out + offsets(index, sizes, teacher_out_strides), value, mask=inside)


def loss(
    student: torch.Tensor,
    teacher: torch.Tensor,
    reduction: str,
    out: torch.Tensor,
    signs: torch.Tensor | None = None,
) -> None:
    """Write the loss into ``out``, 0-dim, or for ``"none"`` of the student's shape; and the ``signs`` if given."""
    per_element = reduction == "none"
    # The order of the signs first: the loop follows it.
    sizes, strides = elementwise([memory_order(student), student, teacher, *([out] if per_element else [])])
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
        signs,
        0 if signs is None else signs.stride(0),
        sizes,
        strides[1],
        strides[2],
        strides[-1],
        BLOCK=block,
    )
    if not per_element:
        finish(partials, None, [programs], [student.numel()], [1.0], reduction == "mean", out, None)


def gradient(
    grad: torch.Tensor,
    signs: torch.Tensor,
    reduction: str,
    student_out: torch.Tensor | None,
    teacher_out: torch.Tensor | None,
) -> None:
    """Write the gradients that are wanted, each with the strides of ``empty_like`` of the student. ``grad`` has one
    element, or for ``"none"`` the student's shape."""
    outs = [x for x in (student_out, teacher_out) if x is not None]
    if not outs:
        return
    per_element = reduction == "none"
    sizes, strides = elementwise([*outs, *([grad] if per_element else [])])
    block = block_of(sizes, strides)
    launch(
        _gradient_kernel,
        triton.cdiv(outs[0].numel(), block),
        grad,
        grad,
        signs,
        signs.stride(0),
        student_out,
        teacher_out,
        sizes,
        strides[0],
        strides[len(outs) - 1],
        strides[-1],
        DTYPE=tl.float64 if torch.float64 in {x.dtype for x in (grad, *outs)} else tl.float32,
        PER_ELEMENT=per_element,
        MEAN=reduction == "mean",
        BLOCK=block,
    )
