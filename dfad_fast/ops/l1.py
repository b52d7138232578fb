r"""Mean absolute difference of logits.

.. math:: L = \mathrm{reduce}\,|s - t| \qquad
          \partial L/\partial s = g\,\mathrm{sign}(s - t) = -\,\partial L/\partial t,
          \quad \mathrm{sign}(0) = 0
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from dfad_fast import backends
from dfad_fast.ops._checks import check_pair, check_reduction, check_tensors
from dfad_fast.ops._dtypes import compute_dtype, empty_gradients, promoted, result_dtype

_NAME = "l1_discrepancy"
_op = backends.op(_NAME)


def reference(student: torch.Tensor, teacher: torch.Tensor, reduction: str = "mean") -> torch.Tensor:
    """The formula in plain PyTorch, differentiable as often as wanted."""
    check_reduction(_NAME, reduction)
    check_pair(_NAME, student, teacher)
    dtype = compute_dtype(student, teacher)
    loss = F.l1_loss(student.to(dtype), teacher.to(dtype), reduction=reduction)
    return loss.to(result_dtype((student, teacher)))


def l1_discrepancy(student: torch.Tensor, teacher: torch.Tensor, reduction: str = "mean") -> torch.Tensor:
    r"""Disagreement of two networks, the mean absolute difference of their logits.

    :math:`L = \mathrm{mean}\,|s - t|`, as :func:`torch.nn.functional.l1_loss`, with gradients to both sides:
    :math:`\pm\,g\,\mathrm{sign}(s-t)` with :math:`\mathrm{sign}(0) = 0`, and 0 where either is NaN. A side
    that requires no gradient costs none. Source: Fang et al. 2019, "Data-Free Adversarial Distillation",
    arXiv 1912.11006; used by Qu et al. 2021, arXiv 2102.11638.

    Args:
        student: logits, any shape; float64, float32, float16 or bfloat16.
        teacher: logits of the same shape, on the same device; its dtype may differ.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Returns:
        A 0-dim tensor, or one of the inputs' shape for ``"none"``, in the promoted dtype (float32 under
        autocast, unless an input is float64). Arithmetic is float32, or float64 where an input is. Empty
        inputs give NaN for ``"mean"``, 0 for ``"sum"``.

    Raises:
        TypeError: an input is not a floating-point tensor.
        ValueError: shapes or devices differ, or the reduction is unknown.
    """
    check_tensors(_NAME, student, teacher)
    if backends.native(student, teacher):
        return _op(student, teacher, reduction)
    return reference(student, teacher, reduction)


@backends.register_fake(_NAME)
def _fake(
    student: torch.Tensor, teacher: torch.Tensor, reduction: str, dtype: torch.dtype | None = None
) -> torch.Tensor:
    check_reduction(_NAME, reduction)
    check_pair(_NAME, student, teacher)
    dtype = promoted((student, teacher), dtype)
    if reduction == "none":
        return torch.empty_like(student, dtype=dtype)
    return torch.empty((), dtype=dtype, device=student.device)


@backends.register_fake(f"{_NAME}_backward")
def _fake_backward(
    grad: torch.Tensor,
    student: torch.Tensor,
    teacher: torch.Tensor,
    reduction: str,
    student_grad: bool,
    teacher_grad: bool,
) -> list[torch.Tensor]:
    return empty_gradients(student, teacher, student_grad, teacher_grad)
