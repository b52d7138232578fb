r"""Squared hinge on the teacher's activation boundary, all stages in one launch.

.. math:: h(s, t) = \mathrm{relu}(u)^2, \quad u = m + s \text{ if } t \le 0 \text{ else } m - s \qquad
          \partial h/\partial s = \pm 2\,\mathrm{relu}(u)

Each program processes one block of one stage. The loss pass also counts the elements whose signs agree and packs the
teacher's signs; the gradient pass reads these packed signs instead of the teacher.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl

from ._device import (
    compute_dtype,
    float64,
    narrow,
    offsets,
    product,
    scalar_gradient,
    widen,
)
from ._launch import float64_bits, launch
from ._layout import Ints, block_of, elementwise, memory_order
from ._reduce import finish
from ._signs import load_bits, rows_of_eight, store_bits

# The kernels are unrolled over the stages; longer lists take several launches.
_STAGES = 8


@triton.jit
def _loss_stage(
    program,  # int, index of the block in the launch
    block,  # int, index of the block in its stage
    student,  # [sizes]
    teacher,  # [sizes], or packed signs, uint8 [ceil(elements / 8)]
    signs,  # uint8 [ceil(elements / 8)], written; or None
    out,  # [sizes], dense in the loop's order, written; or None
    partials,  # float64 [programs], written; or None
    agreed,  # float64 [programs], written; or None
    sizes,  # D ints
    student_strides,  # D ints
    teacher_strides,  # D ints
    margin,  # float64
    BLOCK: tl.constexpr,  # elements per program
):
    dtype: tl.constexpr = compute_dtype(student.dtype.element_ty, teacher.dtype.element_ty)
    count = product(sizes)
    row, index, inside = rows_of_eight(block, count, BLOCK)
    s = widen(tl.load(student + offsets(index, sizes, student_strides), mask=inside, other=0), dtype)
    if teacher.dtype.element_ty == tl.uint8:
        off = load_bits(teacher, row, count) == 0
    else:
        t = tl.load(teacher + offsets(index, sizes, teacher_strides), mask=inside, other=0)
        off = widen(t, dtype) <= 0

    m = tl.full((), margin, dtype)
    u = tl.where(off, m + s, m - s)
    r = tl.where(u <= 0, 0, u)  # not maximum(u, 0), which would turn NaN into 0
    if out is not None:
        tl.store(out + index, narrow(r * r, out.dtype.element_ty), mask=inside)
    if partials is not None:
        tl.store(partials + program, tl.sum(tl.where(inside, r * r, 0)).to(tl.float64))
    if agreed is not None:
        agrees = inside & ((s <= 0) == off)
        tl.store(agreed + program, tl.sum(agrees.to(tl.int32)).to(tl.float64))
    if signs is not None:
        store_bits(signs, row, off == 0, inside, count)


@triton.jit
def _loss_kernel(
    students,  # per stage [sizes]
    teachers,  # per stage [sizes], or packed signs, uint8 [ceil(elements / 8)]
    signs,  # per stage uint8 [ceil(elements / 8)], written; or None
    out,  # [sizes] of the only stage, written; or None
    partials,  # float64 [programs], written; or None
    agreed,  # float64 [programs], written; or None
    sizes,  # per stage D ints
    student_strides,  # per stage D ints
    teacher_strides,  # per stage D ints
    margin: tl.float64,
    BLOCKS: tl.constexpr,  # per stage an int, elements per program
):
    program = tl.program_id(0)
    first = 0
    for k in tl.static_range(len(students)):
        programs = tl.cdiv(product(sizes[k]), BLOCKS[k])
        if (program >= first) & (program < first + programs):
            _loss_stage(
                program,
                program - first,
                students[k],
                teachers[k],
                signs[k],
                out,
                partials,
                agreed,
                sizes[k],
                student_strides[k],
                teacher_strides[k],
                margin,
                BLOCKS[k],
            )
        first += programs


@triton.jit
def _gradient_stage(
    block,  # int, index of the block in its stage
    grad,  # one element, or [sizes] if PER_ELEMENT
    student,  # [sizes]
    signs,  # uint8 [ceil(elements / 8)]
    out,  # [sizes], dense in the loop's order, written
    sizes,  # D ints
    student_strides,  # D ints
    grad_strides,  # D ints
    weight,  # float64
    margin,  # float64
    PER_ELEMENT: tl.constexpr,
    MEAN: tl.constexpr,
    BLOCK: tl.constexpr,  # elements per program
):
    dtype: tl.constexpr = compute_dtype(student.dtype.element_ty, out.dtype.element_ty)
    count = product(sizes)
    row, index, inside = rows_of_eight(block, count, BLOCK)
    s = widen(tl.load(student + offsets(index, sizes, student_strides), mask=inside, other=0), dtype)
    off = load_bits(signs, row, count) == 0
    if PER_ELEMENT:
        g = widen(tl.load(grad + offsets(index, sizes, grad_strides), mask=inside, other=0), dtype)
    else:
        g = scalar_gradient(grad, weight, count, MEAN).to(dtype)

    m = tl.full((), margin, dtype)
    u = tl.where(off, m + s, m - s)
    slope = g * (tl.where(off, 2, -2).to(dtype) * u)
    slope = tl.where(u <= 0, 0, slope)
    tl.store(out + index, narrow(slope, out.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["weights"])
def _gradient_kernel(
    grad,  # one element, or [sizes] of the only stage if PER_ELEMENT
    students,  # per stage [sizes]
    signs,  # per stage uint8 [ceil(elements / 8)]
    outs,  # per stage [sizes], dense in the loop's order, written
    sizes,  # per stage D ints
    student_strides,  # per stage D ints
    grad_strides,  # D ints
    weights,  # int64 per stage, the bits of a float64
    margin: tl.float64,
    PER_ELEMENT: tl.constexpr,
    MEAN: tl.constexpr,
    BLOCKS: tl.constexpr,  # per stage an int, elements per program
):
    program = tl.program_id(0)
    first = 0
    for k in tl.static_range(len(students)):
        programs = tl.cdiv(product(sizes[k]), BLOCKS[k])
        if (program >= first) & (program < first + programs):
            _gradient_stage(
                program - first,
                grad,
                students[k],
                signs[k],
                outs[k],
                sizes[k],
                student_strides[k],
                grad_strides,
                float64(weights[k]),
                margin,
                PER_ELEMENT,
                MEAN,
                BLOCKS[k],
            )
        first += programs


def _groups(stages: Sequence[torch.Tensor]) -> list[list[int]]:
    """Indices of the nonempty stages, in groups that fit one launch."""
    filled = [k for k, x in enumerate(stages) if x.numel() > 0]
    return [filled[i : i + _STAGES] for i in range(0, len(filled), _STAGES)]


def loss(
    student: Sequence[torch.Tensor],
    teacher: Sequence[torch.Tensor],
    weights: Sequence[float],
    margin: float,
    reduction: str,
    out: torch.Tensor,
    agreement: torch.Tensor | None = None,
    signs: Sequence[torch.Tensor | None] | None = None,
) -> None:
    """Write the loss.

    Args:
        student: one floating-point tensor per stage, any shape and strides.
        teacher: per stage a floating-point tensor of the student's shape, or packed signs, uint8
            ``[ceil(elements / 8)]``.
        weights: factor of each stage.
        margin: distance from the boundary.
        reduction: ``"mean"``, ``"sum"``, or for a single stage ``"none"``.
        out: 0-dim, or for ``"none"`` like ``empty_like(student[0])``.
        agreement: float32 ``[stages]``, or None if not wanted.
        signs: per stage uint8 ``[ceil(elements / 8)]``, or None if the teacher is packed; None if not wanted.
    """
    reduced = reduction != "none"
    loops = [_loss_loop(s, t) for s, t in zip(student, teacher, strict=True)]
    blocks = [block_of(sizes, strides) for sizes, *strides in loops]
    programs = [triton.cdiv(s.numel(), block) for s, block in zip(student, blocks, strict=True)]
    partials = agreed = None
    if reduced:
        partials = torch.empty(sum(programs), dtype=torch.float64, device=out.device)
    if agreement is not None:
        agreed = torch.empty(sum(programs), dtype=torch.float64, device=out.device)

    first = 0
    for group in _groups(student):
        count = sum(programs[k] for k in group)
        launch(
            _loss_kernel,
            count,
            out,
            tuple(student[k] for k in group),
            tuple(teacher[k] for k in group),
            tuple(None if signs is None else signs[k] for k in group),
            None if reduced else out,
            None if partials is None else partials[first:],
            None if agreed is None else agreed[first:],
            *zip(*(loops[k] for k in group), strict=True),
            margin,
            BLOCKS=tuple(blocks[k] for k in group),
        )
        first += count
    counts = [s.numel() for s in student]
    finish(
        partials, agreed, programs, counts, weights, reduction == "mean", out if reduced else None, agreement
    )


def _loss_loop(student: torch.Tensor, teacher: torch.Tensor) -> tuple[Ints, Ints, Ints]:
    """Sizes, student's strides and teacher's strides of the loop, which follows the order of the packed signs."""
    order = memory_order(student)
    if teacher.dtype == torch.uint8:
        sizes, (_, student_strides) = elementwise([order, student])
        return sizes, student_strides, student_strides
    sizes, (_, student_strides, teacher_strides) = elementwise([order, student, teacher])
    return sizes, student_strides, teacher_strides


def gradient(
    grad: torch.Tensor,
    student: Sequence[torch.Tensor],
    signs: Sequence[torch.Tensor],
    weights: Sequence[float],
    margin: float,
    reduction: str,
    outs: Sequence[torch.Tensor],
) -> None:
    """Write the students' gradients.

    Args:
        grad: one element, or for ``"none"`` the student's shape with any strides.
        student: as for :func:`loss`.
        signs: per stage uint8 ``[ceil(elements / 8)]``, the teacher's packed signs.
        weights: factor of each stage; ignored for ``"none"``.
        margin: as for :func:`loss`.
        reduction: as for :func:`loss`.
        outs: per stage like ``empty_like(student)``.
    """
    per_element = reduction == "none"
    for group in _groups(student):
        loops, blocks = [], []
        for k in group:
            sizes, strides = elementwise([outs[k], student[k], *([grad] if per_element else [])])
            loops.append((sizes, strides[1], strides[-1]))
            blocks.append(block_of(sizes, strides))
        sizes_of, student_strides, grad_strides = zip(*loops, strict=True)
        launch(
            _gradient_kernel,
            sum(triton.cdiv(student[k].numel(), block) for k, block in zip(group, blocks, strict=True)),
            grad,
            grad,
            tuple(student[k] for k in group),
            tuple(signs[k] for k in group),
            tuple(outs[k] for k in group),
            sizes_of,
            student_strides,
            grad_strides[0],
            float64_bits([weights[k] for k in group]),
            margin,
            PER_ELEMENT=per_element,
            MEAN=reduction == "mean",
            BLOCKS=tuple(blocks),
        )
