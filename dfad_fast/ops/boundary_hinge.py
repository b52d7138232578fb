r"""Squared hinge on the teacher's activation boundary.

.. math:: h(s, t) = \mathrm{relu}(u)^2, \quad u = m + s \text{ if } t \le 0 \text{ else } m - s \qquad
          \partial h/\partial s = \pm 2\,\mathrm{relu}(u)

``t`` enters through its sign only, so it gets no gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from dfad_fast import backends
from dfad_fast.ops._checks import check_margin, check_pair, check_reduction, check_stages
from dfad_fast.ops._dtypes import compute_dtype, promoted, reduce, result_dtype

_NAME = "boundary_hinge_loss"
_STAGES = "boundary_hinge_loss_stages"
_op = backends.op(_NAME)
_stages_op = backends.op(_STAGES)


def _loss(student: torch.Tensor, teacher: torch.Tensor, margin: float, reduction: str) -> torch.Tensor:
    dtype = compute_dtype(student, teacher)
    s = student.to(dtype)
    away_from_boundary = torch.where(teacher.detach() <= 0, s, -s)
    return reduce(F.relu(margin + away_from_boundary).square(), reduction)


def reference(
    student: torch.Tensor, teacher: torch.Tensor, margin: float = 1.0, reduction: str = "mean"
) -> torch.Tensor:
    """The formula in plain PyTorch, differentiable as often as wanted."""
    check_reduction(_NAME, reduction)
    check_margin(_NAME, margin)
    check_pair(_NAME, student, teacher)
    return _loss(student, teacher, margin, reduction).to(result_dtype((student, teacher)))


def stages_reference(
    student: Sequence[torch.Tensor],
    teacher: Sequence[torch.Tensor],
    weights: Sequence[float],
    margin: float = 1.0,
    reduction: str = "mean",
) -> torch.Tensor:
    """The weighted sum of the stages' reduced losses in plain PyTorch."""
    _check_stages(student, teacher, weights, margin, reduction)
    losses = [
        weight * _loss(s, t, margin, reduction)
        for s, t, weight in zip(student, teacher, weights, strict=True)
    ]
    total = losses[0]
    for loss in losses[1:]:
        total = total + loss
    return total.to(result_dtype((*student, *teacher)))


def boundary_hinge_loss(
    student: torch.Tensor | Sequence[torch.Tensor],
    teacher: torch.Tensor | Sequence[torch.Tensor],
    margin: float = 1.0,
    reduction: str = "mean",
    weights: Sequence[float] | None = None,
) -> torch.Tensor:
    r"""Pull the student's pre-activations past the activation boundary, to the teacher's side of it.

    :math:`h(s, t) = \mathrm{relu}(m + s)^2` if :math:`t \le 0` else :math:`\mathrm{relu}(m - s)^2`. The
    gradient reaches the student only, and is 0 on the tie :math:`u = 0`. NaN in ``s`` gives NaN, as
    ``relu(m + s)**2`` does; NaN in ``t`` compares false and counts as "on". Source: Heo et al. 2019,
    "Knowledge Transfer via Distillation of Activation Boundaries Formed by Hidden Neurons", arXiv 1811.03233;
    used by Qu et al. 2021, arXiv 2102.11638.

    Args:
        student: pre-activation features, any shape; float64, float32, float16 or bfloat16; or a list of them,
            one per stage, which is computed in one launch.
        teacher: the teacher's, of the same shapes and on the same device; only their signs are read.
        margin: :math:`m`, finite and not negative.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``, per stage.
        weights: one factor per stage, 1 if not given; only with lists, and not with ``"none"``.

    Returns:
        A 0-dim tensor, or one of the inputs' shape for ``"none"``, in the promoted dtype (float32 under
            autocast). With lists, the weighted sum over stages, or for ``"none"`` a list. Arithmetic is float32,
        or float64 where an input is. Empty inputs give NaN for ``"mean"`` and 0 for ``"sum"``.

    Raises:
        TypeError: an input is not a floating-point tensor, or one side is a list and the other is not.
        ValueError: shapes, devices or lengths differ, margin or reduction is out of range, or weights do not
            fit.
    """
    if isinstance(student, torch.Tensor) and isinstance(teacher, torch.Tensor):
        if weights is not None:
            raise ValueError(f"{_NAME}: weights go with lists of stages, got single tensors")
        if backends.native(student, teacher):
            return _op(student, teacher, margin, reduction)
        return reference(student, teacher, margin, reduction)
    return _over_stages(student, teacher, margin, reduction, weights)


def _over_stages(
    student: object, teacher: object, margin: float, reduction: str, weights: Sequence[float] | None
) -> Any:  # a tensor, or for "none" a list: in the public signature, the usual of the two
    if not (isinstance(student, list | tuple) and isinstance(teacher, list | tuple)):
        raise TypeError(
            f"{_NAME}: student and teacher must both be tensors or both be lists of tensors, "
            f"got {type(student).__name__} and {type(teacher).__name__}"
        )
    students, teachers = _tensors("student", student), _tensors("teacher", teacher)
    factors = [1.0] * len(students) if weights is None else [float(w) for w in weights]
    if reduction == "none":
        if weights is not None:
            raise ValueError(f"{_NAME}: weights go with reduction 'mean' or 'sum', got 'none'")
        check_stages(_NAME, students, teachers, factors)
        return [boundary_hinge_loss(s, t, margin, "none") for s, t in zip(students, teachers, strict=True)]
    if students and backends.native(*students, *teachers):
        return _stages_op(students, teachers, factors, margin, reduction)
    return stages_reference(students, teachers, factors, margin, reduction)


def _tensors(name: str, values: Sequence[object]) -> list[torch.Tensor]:
    tensors = []
    for i, item in enumerate(values):
        if not isinstance(item, torch.Tensor):
            raise TypeError(f"{_NAME}: {name}[{i}] must be a tensor, got {type(item).__name__}")
        tensors.append(item)
    return tensors


def _check_stages(
    student: Sequence[torch.Tensor],
    teacher: Sequence[torch.Tensor],
    weights: Sequence[float],
    margin: float,
    reduction: str,
) -> None:
    check_reduction(_NAME, reduction)
    if reduction == "none":
        raise ValueError(f"{_NAME}: stages are summed and need reduction 'mean' or 'sum', got 'none'")
    check_stages(_NAME, student, teacher, weights)
    check_margin(_NAME, margin)


@backends.register_fake(_NAME)
def _fake(
    student: torch.Tensor,
    teacher: torch.Tensor,
    margin: float,
    reduction: str,
    dtype: torch.dtype | None = None,
) -> torch.Tensor:
    check_reduction(_NAME, reduction)
    check_margin(_NAME, margin)
    check_pair(_NAME, student, teacher)
    dtype = promoted((student, teacher), dtype)
    if reduction == "none":
        return torch.empty_like(student, dtype=dtype)
    return torch.empty((), dtype=dtype, device=student.device)


@backends.register_fake(_STAGES)
def _fake_stages(
    student: list[torch.Tensor],
    teacher: list[torch.Tensor],
    weights: list[float],
    margin: float,
    reduction: str,
    dtype: torch.dtype | None = None,
) -> torch.Tensor:
    _check_stages(student, teacher, weights, margin, reduction)
    return torch.empty((), dtype=promoted((*student, *teacher), dtype), device=student[0].device)


@backends.register_fake(f"{_NAME}_backward")
def _fake_backward(
    grad: torch.Tensor,
    student: list[torch.Tensor],
    teacher: list[torch.Tensor],
    weights: list[float],
    margin: float,
    reduction: str,
) -> list[torch.Tensor]:
    return [torch.empty_like(s) for s in student]
