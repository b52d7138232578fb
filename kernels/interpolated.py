r"""Absolute difference from an interpolated label; the label is never written to memory.

.. math:: y_i = \lambda_i t_i + (1 - \lambda_i)\, t_{\pi(i)}, \qquad L = \mathrm{reduce}\,|s - y|

.. math:: v = g\,\mathrm{sign}(s - y), \qquad \partial L/\partial s = v, \qquad
          \partial L/\partial t_i = -(\lambda_i v_i + (1 - \lambda_j)\, v_j), \quad j = \pi^{-1}(i)

Each row of the teacher contributes to two labels. Its gradient recomputes ``v`` of both rows, by gathers; only the
inverse permutation is found by an atomic maximum.

In the comments below, "[batch, sizes]" stands for a tensor ``[B, ...]``, whose dimensions after the first are merged.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ._device import compute_dtype, narrow, offsets, scalar_gradient, tile, widen
from ._launch import launch
from ._layout import elementwise
from ._partners import (
    WARPS,
    inverse_of,
    lam_arguments,
    partner_of,
    stride_of,
    tile_of,
    weight_of,
)
from ._reduce import finish
from .l1 import signed


@triton.jit
def _load(x, row, column, there, batch_stride, sizes, strides, dtype: tl.constexpr):
    at = (row * batch_stride)[:, None] + offsets(column, sizes, strides)[None, :]
    return widen(tl.load(x + at, mask=there, other=0), dtype)


@triton.jit
def _label(own, mine, theirs, found):
    """The mixture ``[ROWS, COLUMNS]`` of two rows, NaN if the second does not exist; ``own`` and ``found`` are
    ``[ROWS]``."""
    dtype: tl.constexpr = mine.dtype
    mixed = own.to(dtype)[:, None] * mine + (1 - own).to(dtype)[:, None] * theirs
    return tl.where(found[:, None], mixed, float("nan"))


@triton.jit
def _loss_kernel(
    student,  # [batch, sizes]
    teacher,  # [batch, sizes]
    out,  # [batch, sizes], written; or None
    partials,  # float64 [programs], written; or None
    batch_strides,  # 3 ints: student, teacher, out
    elements,  # int, product of sizes
    sizes,  # D ints
    student_strides,  # D ints
    teacher_strides,  # D ints
    out_strides,  # D ints
    lam,  # [batch] or 0-dim, or None if it was a scalar on the host
    lam_stride,  # int
    lam_value: tl.float64,  # used if lam is None
    perm,  # int64 [batch]
    perm_stride,  # int
    batch,  # int
    ROWS: tl.constexpr,  # samples per program
    COLUMNS: tl.constexpr,  # elements of a sample per program
):
    dtype: tl.constexpr = compute_dtype(student.dtype.element_ty, teacher.dtype.element_ty)
    row, column = tile(tl.program_id(0), elements, ROWS, COLUMNS)
    inside = row < batch
    mask = inside[:, None] & (column < elements)[None, :]
    partner, found = partner_of(perm, perm_stride, row, inside, batch)
    own = weight_of(lam, lam_stride, lam_value, row, inside)

    s = _load(student, row, column, mask, batch_strides[0], sizes, student_strides, dtype)
    mine = _load(teacher, row, column, mask, batch_strides[1], sizes, teacher_strides, dtype)
    theirs = _load(
        teacher, partner, column, mask & found[:, None], batch_strides[1], sizes, teacher_strides, dtype
    )
    difference = tl.abs(s - _label(own, mine, theirs, found))
    if out is not None:
        at = (row * batch_strides[2])[:, None] + offsets(column, sizes, out_strides)[None, :]
        tl.store(out + at, narrow(difference, out.dtype.element_ty), mask=mask)
    else:
        tl.store(partials + tl.program_id(0), tl.sum(tl.where(mask, difference, 0)).to(tl.float64))


@triton.jit
def _gradient_kernel(
    grad,  # one element, or [batch, sizes] if PER_ELEMENT
    student,  # [batch, sizes]
    teacher,  # [batch, sizes]
    student_out,  # [batch, sizes], written; or None
    teacher_out,  # [batch, sizes], written; or None
    batch_strides,  # 5 ints: student, teacher, student_out, teacher_out, grad
    elements,  # int, product of sizes
    sizes,  # D ints
    student_strides,  # D ints
    teacher_strides,  # D ints
    student_out_strides,  # D ints
    teacher_out_strides,  # D ints
    grad_strides,  # D ints
    lam,  # [batch] or 0-dim, or None if it was a scalar on the host
    lam_stride,  # int
    lam_value: tl.float64,  # used if lam is None
    perm,  # int64 [batch]
    perm_stride,  # int
    inverse,  # int64 [batch], contiguous, the inverse of perm; or None
    batch,  # int
    PER_ELEMENT: tl.constexpr,
    MEAN: tl.constexpr,
    ROWS: tl.constexpr,  # samples per program
    COLUMNS: tl.constexpr,  # elements of a sample per program
):
    dtype: tl.constexpr = compute_dtype(student.dtype.element_ty, teacher.dtype.element_ty)
    row, column = tile(tl.program_id(0), elements, ROWS, COLUMNS)
    inside = row < batch
    mask = inside[:, None] & (column < elements)[None, :]
    partner, found = partner_of(perm, perm_stride, row, inside, batch)
    own = weight_of(lam, lam_stride, lam_value, row, inside)

    mine = _load(teacher, row, column, mask, batch_strides[1], sizes, teacher_strides, dtype)
    theirs = _load(
        teacher, partner, column, mask & found[:, None], batch_strides[1], sizes, teacher_strides, dtype
    )
    s = _load(student, row, column, mask, batch_strides[0], sizes, student_strides, dtype)
    if PER_ELEMENT:
        g = _load(grad, row, column, mask, batch_strides[4], sizes, grad_strides, dtype)
    else:
        g = scalar_gradient(grad, 1.0, tl.cast(batch, tl.int64) * elements, MEAN).to(dtype)
    v = signed(s - _label(own, mine, theirs, found), g)
    v = tl.where(found[:, None], v, float("nan"))
    if student_out is not None:
        at = (row * batch_strides[2])[:, None] + offsets(column, sizes, student_out_strides)[None, :]
        tl.store(student_out + at, narrow(v, student_out.dtype.element_ty), mask=mask)

    if teacher_out is not None:
        # This row of the teacher is also the partner of the row whose entry in perm points here.
        user, used = partner_of(inverse, 1, row, inside, batch)
        user_mask = mask & used[:, None]
        user_own = weight_of(lam, lam_stride, lam_value, user, used)
        user_s = _load(student, user, column, user_mask, batch_strides[0], sizes, student_strides, dtype)
        user_t = _load(teacher, user, column, user_mask, batch_strides[1], sizes, teacher_strides, dtype)
        if PER_ELEMENT:
            user_g = _load(grad, user, column, user_mask, batch_strides[4], sizes, grad_strides, dtype)
        else:
            user_g = g
        user_v = signed(user_s - _label(user_own, user_t, mine, used), user_g)
        user_v = tl.where(used[:, None], user_v, float("nan"))
        slope = -(own.to(dtype)[:, None] * v + (1 - user_own).to(dtype)[:, None] * user_v)
        at = (row * batch_strides[3])[:, None] + offsets(column, sizes, teacher_out_strides)[None, :]
        tl.store(teacher_out + at, narrow(slope, teacher_out.dtype.element_ty), mask=mask)


def loss(
    student: torch.Tensor,
    teacher: torch.Tensor,
    lam: torch.Tensor,
    perm: torch.Tensor,
    reduction: str,
    out: torch.Tensor,
) -> None:
    """Write the loss.

    Args:
        student: ``[B, ...]``, floating-point, any strides.
        teacher: same shape as the student, floating-point, any strides.
        lam: ``[B]``, or a scalar on the device or the host.
        perm: int64 ``[B]``.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.
        out: 0-dim, or for ``"none"`` of the student's shape.
    """
    per_element = reduction == "none"
    batch, count = perm.numel(), student.numel()
    programs = 0
    partials = None
    if count:
        elements = count // batch
        like_out = out if per_element else student
        sizes, strides = elementwise([like_out, student, teacher], first_dim=1)
        rows, columns = tile_of(batch, elements, sizes, strides)
        programs = triton.cdiv(batch, rows) * triton.cdiv(elements, columns)
        if not per_element:
            partials = torch.empty(programs, dtype=torch.float64, device=out.device)
        launch(
            _loss_kernel,
            programs,
            out,
            student,
            teacher,
            out if per_element else None,
            partials,
            (student.stride(0), teacher.stride(0), like_out.stride(0)),
            elements,
            sizes,
            strides[1],
            strides[2],
            strides[0],
            *lam_arguments(lam),
            perm,
            stride_of(perm),
            batch,
            warps=WARPS,
            ROWS=rows,
            COLUMNS=columns,
        )
    if not per_element:
        finish(partials, None, [programs], [count], [1.0], reduction == "mean", out, None)


def gradient(
    grad: torch.Tensor,
    student: torch.Tensor,
    teacher: torch.Tensor,
    lam: torch.Tensor,
    perm: torch.Tensor,
    reduction: str,
    student_out: torch.Tensor | None,
    teacher_out: torch.Tensor | None,
) -> None:
    """Write the gradients that are not None.

    Args:
        grad: one element, or for ``"none"`` the student's shape with any strides.
        student, teacher, lam, perm, reduction: as for :func:`loss`.
        student_out: like ``empty_like(student)``.
        teacher_out: like ``empty_like(teacher)``.
    """
    outs = [x for x in (student_out, teacher_out) if x is not None]
    if not outs or student.numel() == 0:
        return
    batch = perm.numel()
    elements = student.numel() // batch
    per_element = reduction == "none"
    like_grad = grad if per_element else student
    sizes, strides = elementwise([*outs, student, teacher, like_grad], first_dim=1)
    rows, columns = tile_of(batch, elements, sizes, strides)
    launch(
        _gradient_kernel,
        triton.cdiv(batch, rows) * triton.cdiv(elements, columns),
        grad,
        grad,
        student,
        teacher,
        student_out,
        teacher_out,
        tuple(x.stride(0) for x in (student, teacher, outs[0], outs[-1], like_grad)),
        elements,
        sizes,
        strides[-3],
        strides[-2],
        strides[0],
        strides[len(outs) - 1],
        strides[-1],
        *lam_arguments(lam),
        perm,
        stride_of(perm),
        None if teacher_out is None else inverse_of(perm),
        batch,
        PER_ELEMENT=per_element,
        MEAN=reduction == "mean",
        warps=WARPS,
        ROWS=rows,
        COLUMNS=columns,
    )
