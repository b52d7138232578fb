r"""Squared hinge on the teacher's activation boundary.

.. math:: h(s, t) = \mathrm{relu}(u)^2, \quad u = m + s \text{ if } t \le 0 \text{ else } m - s \qquad
          \partial h/\partial s = \pm 2\,\mathrm{relu}(u)

Only the sign of ``t`` matters, so it gets no gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F

from dfad_fast import backends
from dfad_fast.ops._checks import (
    check_floating,
    check_lengths,
    check_margin,
    check_reduction,
    check_stages,
    check_types,
)
from dfad_fast.ops._dtypes import compute_dtype, promoted, reduce, result_dtype
from dfad_fast.ops._numbers import Number, number
from dfad_fast.ops.packed_signs import PackedSigns, dense_strides, unpack

_NAME = "boundary_hinge_loss"
_op = backends.op(_NAME)

Features: TypeAlias = torch.Tensor | PackedSigns


def _on(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    if teacher.dtype == torch.uint8:
        return unpack(teacher, student.shape, dense_strides(student))
    return ~(teacher.detach() <= 0)


def reference(
    student: Sequence[torch.Tensor],
    teacher: Sequence[torch.Tensor],
    weights: Sequence[Number],
    margin: Number = 1.0,
    reduction: str = "mean",
) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss and agreement in plain PyTorch, differentiable any number of times.

    As in the op, each teacher is a tensor like its student, or bits (uint8) in its student's memory order.
    """
    _check(student, teacher, weights, margin, reduction)
    losses, agreements = [], []
    for s, t, weight in zip(student, teacher, weights, strict=True):
        on = _on(s, t)
        wide = s.to(compute_dtype(s, t))
        loss = reduce(F.relu(margin + torch.where(on, -wide, wide)).square(), reduction)
        losses.append(loss if reduction == "none" else weight * loss)
        agreements.append((~(s.detach() <= 0) == on).float().mean())
    total = losses[0]
    for loss in losses[1:]:
        total = total + loss
    return total.to(result_dtype((*student, *teacher))), torch.stack(agreements)


def boundary_hinge_loss(
    student: torch.Tensor | Sequence[torch.Tensor],
    teacher: Features | Sequence[Features],
    margin: Number = 1.0,
    reduction: str = "mean",
    weights: Sequence[Number] | torch.Tensor | None = None,
) -> torch.Tensor:
    r"""Push the student's pre-activations to the teacher's side of the activation boundary.

    :math:`h(s, t) = \mathrm{relu}(m + s)^2` if :math:`t \le 0` else :math:`\mathrm{relu}(m - s)^2`. Only the student
    gets a gradient; it is 0 on the tie :math:`u = 0`. NaN in ``s`` gives NaN, as in ``relu(m + s)**2``; NaN in ``t``
    compares false and counts as "on". Backward keeps one bit per element of the teacher, so its features may be freed
    or changed. Source: Heo et al. 2019, "Knowledge Transfer via Distillation of Activation Boundaries Formed by Hidden
    Neurons", arXiv 1811.03233; used by Qu et al. 2021, arXiv 2102.11638.

    Args:
        student: pre-activation features, any shape; float64, float32, float16 or bfloat16; or a list of such tensors,
            one per stage, computed in one launch.
        teacher: the teacher's pre-activations, same shapes and device, or the result of :func:`pack_signs`; only their
            signs are read.
        margin: :math:`m`, finite and not negative. If it is a tensor of one element that requires a gradient, it gets
            one, in plain PyTorch.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``, per stage.
        weights: one factor per stage, 1 if not given; only for lists, and not for ``"none"``. They get gradients in the
            same way as ``margin``.

    Returns:
        A 0-dim tensor, or for ``"none"`` a tensor of the inputs' shape, in the promoted dtype (float32 under autocast).
        For lists, the weighted sum over stages, or for ``"none"`` a list. Arithmetic is float32, or float64 if an input
        is float64 (for the gradient, if the student is). Empty inputs give NaN for ``"mean"`` and 0 for ``"sum"``.

    Raises:
        TypeError: an input is not a floating-point tensor, one side is a list and the other is not, or margin or a
            weight is not a number.
        ValueError: shapes, devices or lengths differ, margin or reduction is out of range, or weights do not match the
            stages.
    """
    loss, _ = _compute(student, teacher, margin, reduction, weights, agreement=False)
    return loss


def boundary_hinge_loss_with_agreement(
    student: torch.Tensor | Sequence[torch.Tensor],
    teacher: Features | Sequence[Features],
    margin: Number = 1.0,
    reduction: str = "mean",
    weights: Sequence[Number] | torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """:func:`boundary_hinge_loss`, and from the same pass the share of neurons on the same side as the teacher's.

    Args and Raises: as for :func:`boundary_hinge_loss`.

    Returns:
        The loss, and the share of elements whose signs agree, in [0, 1]: float32, without gradient, 0-dim, or
        ``[stages]`` for lists. NaN for an empty stage.
    """
    loss, agreement = _compute(student, teacher, margin, reduction, weights, agreement=True)
    return loss, agreement


def _compute(
    student: object,
    teacher: object,
    margin: Number,
    reduction: str,
    weights: Sequence[Number] | torch.Tensor | None,
    agreement: bool,
) -> tuple[Any, torch.Tensor]:
    if type(margin) is not float:
        margin = number(_NAME, "margin", margin)
    if isinstance(student, torch.Tensor) and isinstance(teacher, torch.Tensor | PackedSigns):
        if weights is not None:
            raise ValueError(f"{_NAME}: weights go with lists of stages, got single tensors")
        loss, share = _dispatch([student], [teacher], [1.0], margin, reduction, agreement)
        return loss, share[0] if agreement else share
    if not (isinstance(student, list | tuple) and isinstance(teacher, list | tuple)):
        raise TypeError(
            f"{_NAME}: student and teacher must both be tensors or both be lists of tensors, "
            f"got {type(student).__name__} and {type(teacher).__name__}"
        )
    check_types(_NAME, "student", student)
    check_types(_NAME, "teacher", teacher, torch.Tensor | PackedSigns)
    factors: list[Number] = [1.0] * len(student)
    if weights is not None:
        factors = [w if type(w) is float else number(_NAME, "each weight", w) for w in weights]
    if reduction != "none":
        return _dispatch(student, teacher, factors, margin, reduction, agreement)
    if weights is not None:
        raise ValueError(f"{_NAME}: weights go with reduction 'mean' or 'sum', got 'none'")
    check_stages(_NAME, student, _in_students_order(student, teacher), factors)
    results = [
        _dispatch([s], [t], [1.0], margin, reduction, agreement)
        for s, t in zip(student, teacher, strict=True)
    ]
    return [loss for loss, _ in results], torch.cat([share for _, share in results])


def _dispatch(
    student: Sequence[torch.Tensor],
    teacher: Sequence[Features],
    weights: Sequence[Number],
    margin: Number,
    reduction: str,
    agreement: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    bits = _in_students_order(student, teacher)
    learned = isinstance(margin, torch.Tensor) or any(isinstance(w, torch.Tensor) for w in weights)
    if not learned and backends.native(*student, *bits):
        loss, share, _ = _op(student, bits, weights, margin, reduction, agreement)
        return loss, share
    return reference(student, bits, weights, margin, reduction)


def _in_students_order(student: Sequence[torch.Tensor], teacher: Sequence[Features]) -> list[torch.Tensor]:
    """The teachers as the op takes them: features, or bits in the student's memory order."""
    check_lengths(_NAME, student, teacher)
    tensors = []
    for i, (s, t) in enumerate(zip(student, teacher, strict=True)):
        stage = f"[{i}]" if len(student) > 1 else ""
        if isinstance(t, torch.Tensor):
            check_floating(_NAME, f"teacher{stage}", t)
            tensors.append(t)
            continue
        if s.shape != t.shape:
            raise ValueError(
                f"{_NAME}: teacher{stage}: packed signs of shape {list(t.shape)} do not fit a student of shape "
                f"{list(s.shape)}"
            )
        tensors.append(t.in_order_of(s))
    return tensors


def _check(
    student: Sequence[torch.Tensor],
    teacher: Sequence[torch.Tensor],
    weights: Sequence[Number],
    margin: Number,
    reduction: str,
) -> None:
    check_reduction(_NAME, reduction)
    check_margin(_NAME, margin)
    check_stages(_NAME, student, teacher, weights)
    if reduction == "none" and len(student) > 1:
        raise ValueError(f"{_NAME}: stages are summed and need reduction 'mean' or 'sum', got 'none'")


@backends.register_fake(_NAME)
def _fake(
    student: list[torch.Tensor],
    teacher: list[torch.Tensor],
    weights: list[float],
    margin: float,
    reduction: str,
    agreement: bool = False,
    save_signs: bool = False,
    dtype: torch.dtype | None = None,
) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
    _check(student, teacher, weights, margin, reduction)
    dtype = promoted((*student, *teacher), dtype)
    first = student[0]
    loss = torch.empty_like(first, dtype=dtype) if reduction == "none" else first.new_empty((), dtype=dtype)
    shares = first.new_empty(len(student) if agreement else 0, dtype=torch.float32)
    signs = [
        s.new_empty((s.numel() + 7) // 8, dtype=torch.uint8)
        for s, t in zip(student, teacher, strict=True)
        if save_signs and t.dtype != torch.uint8
    ]
    return loss, shares, signs


@backends.register_fake(f"{_NAME}_backward")
def _fake_backward(
    grad: torch.Tensor,
    student: list[torch.Tensor],
    signs: list[torch.Tensor],
    weights: list[float],
    margin: float,
    reduction: str,
) -> list[torch.Tensor]:
    return [torch.empty_like(s) for s in student]
