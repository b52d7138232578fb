r"""Kullback-Leibler divergence of softened class probabilities, one row of logits at a time.

.. math:: p = \mathrm{softmax}(t / T), \quad q = \mathrm{softmax}(s / T), \qquad
          L_r = \sum_c p_c (\log p_c - \log q_c), \text{ terms with } p_c = 0 \text{ being } 0

.. math:: \partial L_r/\partial s = (q - p) / T, \qquad
          \partial L_r/\partial t = p\,((\log p - \log q) - L_r) / T

The loss pass reads a row's classes twice: once for both log-sum-exps, with a running maximum, and once for the sum. A
log-sum-exp is kept in two parts, the maximum and the logarithm of the remaining sum, because (x - maximum) - logarithm
is more precise than x - logsumexp. These four numbers and ``L_r`` are the row's statistics. The gradient needs nothing
else.

In the comments below, "[sizes, classes]" stands for logits ``[B, C, ...]``: all dimensions but the class, merged, and
the class.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl

from ._device import compute_dtype, narrow, offsets, scalar_gradient, tile, widen
from ._launch import launch
from ._layout import Ints, merge
from ._reduce import finish

_WARPS = 4
_TILE = 2048
# If a row's classes are not adjacent in memory, neighboring threads process neighboring rows.
_APART = 16


@triton.jit
def _softened(rows, start, classes, class_stride, inside, inverse, COLUMNS: tl.constexpr):
    """``COLUMNS`` classes of each row divided by the temperature; -inf past the last class.

    ``rows`` are pointers ``[ROWS]``. Returns the logits and their mask, each ``[ROWS, COLUMNS]``.
    """
    column = start + tl.arange(0, COLUMNS).to(tl.int64)
    mask = inside[:, None] & (column < classes)[None, :]
    x = tl.load(rows[:, None] + (column * class_stride)[None, :], mask=mask, other=float("-inf"))
    return widen(x, inverse.dtype) * inverse, mask


@triton.jit
def _running(maximum, total, x):
    """Update the maximum and the sum of exp(x - maximum), each ``[ROWS]``, with more classes ``[ROWS, COLUMNS]``."""
    new = tl.maximum(maximum, tl.max(x, axis=1))
    base = tl.where(new == float("-inf"), 0, new)  # because -inf - -inf is NaN
    return new, total * tl.exp(maximum - base) + tl.sum(tl.exp(x - base[:, None]), axis=1)


@triton.jit
def _loss_kernel(
    student,  # [sizes, classes]
    teacher,  # [sizes, classes]
    statistics,  # [5, rows] in the compute dtype, written
    out,  # [rows], contiguous, written; or None
    partials,  # float64 [programs], written; or None
    sizes,  # D ints
    student_strides,  # D ints
    teacher_strides,  # D ints
    student_class_stride,  # int
    teacher_class_stride,  # int
    rows,  # int, product of sizes
    classes,  # int
    inverse_temperature: tl.float64,
    ROWS: tl.constexpr,  # rows per program
    COLUMNS: tl.constexpr,  # classes per step
):
    dtype: tl.constexpr = compute_dtype(student.dtype.element_ty, teacher.dtype.element_ty)
    inverse = tl.full((), inverse_temperature, tl.float64).to(dtype)
    rows = tl.cast(rows, tl.int64)
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    inside = row < rows
    student_rows = student + offsets(row, sizes, student_strides)
    teacher_rows = teacher + offsets(row, sizes, teacher_strides)

    s_max = tl.full((ROWS,), float("-inf"), dtype)
    t_max = tl.full((ROWS,), float("-inf"), dtype)
    s_total = tl.zeros((ROWS,), dtype)
    t_total = tl.zeros((ROWS,), dtype)
    for start in range(0, classes, COLUMNS):
        s, _ = _softened(student_rows, start, classes, student_class_stride, inside, inverse, COLUMNS)
        t, _ = _softened(teacher_rows, start, classes, teacher_class_stride, inside, inverse, COLUMNS)
        s_max, s_total = _running(s_max, s_total, s)
        t_max, t_total = _running(t_max, t_total, t)
    s_log, t_log = tl.log(s_total), tl.log(t_total)

    loss = tl.zeros((ROWS,), dtype)
    for start in range(0, classes, COLUMNS):
        s, _ = _softened(student_rows, start, classes, student_class_stride, inside, inverse, COLUMNS)
        t, mask = _softened(teacher_rows, start, classes, teacher_class_stride, inside, inverse, COLUMNS)
        log_q = (s - s_max[:, None]) - s_log[:, None]
        log_p = (t - t_max[:, None]) - t_log[:, None]
        p = tl.exp(log_p)
        terms = tl.where(p == 0, 0, p * (log_p - log_q))
        loss += tl.sum(tl.where(mask, terms, 0), axis=1)

    tl.store(statistics + row, s_max, mask=inside)
    tl.store(statistics + rows + row, s_log, mask=inside)
    tl.store(statistics + rows * 2 + row, t_max, mask=inside)
    tl.store(statistics + rows * 3 + row, t_log, mask=inside)
    tl.store(statistics + rows * 4 + row, loss, mask=inside)
    if out is not None:
        tl.store(out + row, narrow(loss, out.dtype.element_ty), mask=inside)
    else:
        tl.store(partials + tl.program_id(0), tl.sum(tl.where(inside, loss, 0)).to(tl.float64))


@triton.jit
def _statistic(statistics, i: tl.constexpr, row, rows):
    return tl.load(statistics + tl.cast(rows, tl.int64) * i + row, mask=row < rows, other=0)[:, None]


@triton.jit
def _gradient_kernel(
    grad,  # one element, or [sizes] if PER_ELEMENT
    student,  # [sizes, classes]
    teacher,  # [sizes, classes]
    statistics,  # [5, rows] in the compute dtype
    student_out,  # [sizes, classes], written; or None
    teacher_out,  # [sizes, classes], written; or None
    sizes,  # D ints
    student_strides,  # D ints
    teacher_strides,  # D ints
    student_out_strides,  # D ints
    teacher_out_strides,  # D ints
    grad_strides,  # D ints
    student_class_stride,  # int
    teacher_class_stride,  # int
    student_out_class_stride,  # int
    teacher_out_class_stride,  # int
    rows,  # int, product of sizes
    classes,  # int
    inverse_temperature: tl.float64,
    PER_ELEMENT: tl.constexpr,
    MEAN: tl.constexpr,
    ROWS: tl.constexpr,  # rows per program
    COLUMNS: tl.constexpr,  # classes per program
):
    dtype: tl.constexpr = compute_dtype(student.dtype.element_ty, teacher.dtype.element_ty)
    inverse = tl.full((), inverse_temperature, tl.float64).to(dtype)
    row, column = tile(tl.program_id(0), classes, ROWS, COLUMNS)
    inside = row < rows
    mask = inside[:, None] & (column < classes)[None, :]
    s_at = offsets(row, sizes, student_strides)[:, None] + (column * student_class_stride)[None, :]
    t_at = offsets(row, sizes, teacher_strides)[:, None] + (column * teacher_class_stride)[None, :]
    s = widen(tl.load(student + s_at, mask=mask, other=0), dtype) * inverse
    t = widen(tl.load(teacher + t_at, mask=mask, other=0), dtype) * inverse
    log_q = (s - _statistic(statistics, 0, row, rows)) - _statistic(statistics, 1, row, rows)
    log_p = (t - _statistic(statistics, 2, row, rows)) - _statistic(statistics, 3, row, rows)
    p = tl.exp(log_p)
    if PER_ELEMENT:
        g = widen(tl.load(grad + offsets(row, sizes, grad_strides), mask=inside, other=0), dtype)[:, None]
    else:
        g = scalar_gradient(grad, 1.0, rows, MEAN).to(dtype)
    g = g * inverse

    if student_out is not None:
        at = offsets(row, sizes, student_out_strides)[:, None] + (column * student_out_class_stride)[None, :]
        slope = g * (tl.exp(log_q) - p)
        tl.store(student_out + at, narrow(slope, student_out.dtype.element_ty), mask=mask)
    if teacher_out is not None:
        at = offsets(row, sizes, teacher_out_strides)[:, None] + (column * teacher_out_class_stride)[None, :]
        loss = _statistic(statistics, 4, row, rows)
        slope = tl.where(p == 0, 0, g * (p * ((log_p - log_q) - loss)))
        tl.store(teacher_out + at, narrow(slope, teacher_out.dtype.element_ty), mask=mask)


def _rows(logits: Sequence[torch.Tensor], per_row: Sequence[torch.Tensor] = ()) -> tuple[Ints, list[Ints]]:
    """The loop over all dimensions but the class, in row-major order like the statistics."""
    sizes = [n for d, n in enumerate(logits[0].shape) if d != 1]
    strides = [[n for d, n in enumerate(x.stride()) if d != 1] for x in logits]
    return merge(sizes, [*strides, *(x.stride() for x in per_row)], range(len(sizes)))


def _tile(logits: Sequence[torch.Tensor], rows: int) -> tuple[int, int]:
    """Rows and classes of one program's tile: fewer where threads cannot load 16 bytes of classes at once."""
    classes = logits[0].shape[1]
    together = all(x.stride(1) == 1 for x in logits)
    tile = _TILE if together and classes % 16 == 0 else _TILE // 4
    columns = min(triton.next_power_of_2(max(classes, 1)), tile if together else _APART)
    return min(tile // columns, triton.next_power_of_2(rows)), columns


def _inverse(temperature: float, dtype: torch.dtype) -> float:
    """1 / temperature, clamped to finite positive numbers of the compute dtype, because 0 times a logit of -inf is
    NaN."""
    limits = torch.finfo(dtype)
    return min(max(1 / temperature, limits.tiny), limits.max)


def loss(
    student: torch.Tensor,
    teacher: torch.Tensor,
    temperature: float,
    reduction: str,
    out: torch.Tensor,
    statistics: torch.Tensor,
) -> None:
    """Write the loss and the statistics.

    Args:
        student: logits ``[B, C, ...]``, floating-point, any strides.
        teacher: same shape as the student, floating-point, any strides.
        temperature: divisor of the logits.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.
        out: 0-dim, or for ``"none"`` the logits' shape without dimension 1, contiguous.
        statistics: ``[5, rows]`` in the compute dtype: maximum and logarithm for the student, the same for the teacher,
            and the rows' losses.
    """
    per_row = reduction == "none"
    count = statistics.shape[1]
    partials = None
    programs = 0
    if count > 0:
        rows, columns = _tile([student, teacher], count)
        programs = triton.cdiv(count, rows)
        if not per_row:
            partials = torch.empty(programs, dtype=torch.float64, device=out.device)
        sizes, strides = _rows([student, teacher])
        launch(
            _loss_kernel,
            programs,
            out,
            student,
            teacher,
            statistics,
            out if per_row else None,
            partials,
            sizes,
            *strides,
            student.stride(1),
            teacher.stride(1),
            count,
            student.shape[1],
            _inverse(temperature, statistics.dtype),
            warps=_WARPS,
            ROWS=rows,
            COLUMNS=columns,
        )
    if not per_row:
        finish(partials, None, [programs], [count], [1.0], reduction == "mean", out, None)


def gradient(
    grad: torch.Tensor,
    student: torch.Tensor,
    teacher: torch.Tensor,
    statistics: torch.Tensor,
    temperature: float,
    reduction: str,
    student_out: torch.Tensor | None,
    teacher_out: torch.Tensor | None,
) -> None:
    """Write the gradients that are not None.

    Args:
        grad: one element, or for ``"none"`` one per row, ``[B, ...]`` with any strides.
        student, teacher, temperature, reduction: as for :func:`loss`.
        statistics: ``[5, rows]``, from :func:`loss`.
        student_out: of the student's shape.
        teacher_out: of the teacher's shape.
    """
    outs = [x for x in (student_out, teacher_out) if x is not None]
    if not outs or student.numel() == 0:
        return
    count, classes = statistics.shape[1], student.shape[1]
    rows, columns = _tile([*outs, student, teacher], count)
    per_element = reduction == "none"
    sizes, strides = _rows([*outs, student, teacher], [grad] if per_element else [])
    launch(
        _gradient_kernel,
        triton.cdiv(count, rows) * triton.cdiv(classes, columns),
        grad,
        grad,
        student,
        teacher,
        statistics,
        student_out,
        teacher_out,
        sizes,
        strides[len(outs)],
        strides[len(outs) + 1],
        strides[0],
        strides[len(outs) - 1],
        strides[-1],
        student.stride(1),
        teacher.stride(1),
        outs[0].stride(1),
        outs[-1].stride(1),
        count,
        classes,
        _inverse(temperature, statistics.dtype),
        PER_ELEMENT=per_element,
        MEAN=reduction == "mean",
        warps=_WARPS,
        ROWS=rows,
        COLUMNS=columns,
    )
