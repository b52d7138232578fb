r"""Mean absolute difference of logits.

.. math:: L = \mathrm{reduce}\,|s - t| \qquad
          \partial L/\partial s = g\,\mathrm{sign}(s - t) = -\,\partial L/\partial t,
          \quad \mathrm{sign}(0) = 0

For backward the compiled kernels keep two bits per element instead of the logits: whether the student's logit is at
least the teacher's, and whether it is at most the teacher's.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from dfad_fast import backends
from dfad_fast.ops._checks import (
    check_difference_signs,
    check_grad,
    check_pair,
    check_reduction,
    check_tensors,
)
from dfad_fast.ops._dtypes import compute_dtype, promoted, result_dtype

_NAME = "l1_discrepancy"
_op = backends.op(_NAME)
_SECTOR = 32  # bytes, at which each plane of signs begins, as in csrc/difference_signs.h


def reference(student: torch.Tensor, teacher: torch.Tensor, reduction: str = "mean") -> torch.Tensor:
    """The formula in plain PyTorch, differentiable any number of times."""
    check_reduction(_NAME, reduction)
    check_pair(_NAME, student, teacher)
    dtype = compute_dtype(student, teacher)
    loss = F.l1_loss(student.to(dtype), teacher.to(dtype), reduction=reduction)
    return loss.to(result_dtype((student, teacher)))


def l1_discrepancy(student: torch.Tensor, teacher: torch.Tensor, reduction: str = "mean") -> torch.Tensor:
    r"""Disagreement of two networks: the mean absolute difference of their logits.

    :math:`L = \mathrm{mean}\,|s - t|`, as :func:`torch.nn.functional.l1_loss`. Both sides get gradients,
    :math:`\pm\,g\,\mathrm{sign}(s-t)` with :math:`\mathrm{sign}(0) = 0`, and 0 where either is NaN. A side that
    requires no gradient costs nothing. Source: Fang et al. 2019, "Data-Free Adversarial Distillation",
    arXiv 1912.11006; used by Qu et al. 2021, arXiv 2102.11638.

    Args:
        student: logits, any shape; float64, float32, float16 or bfloat16.
        teacher: logits of the same shape, on the same device; its dtype may differ.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Returns:
        A 0-dim tensor, or for ``"none"`` a tensor of the inputs' shape, in the promoted dtype (float32 under autocast,
        unless an input is float64). Arithmetic is float32, or float64 if an input is float64. Empty inputs give NaN for
        ``"mean"`` and 0 for ``"sum"``.

    Raises:
        TypeError: an input is not a floating-point tensor.
        ValueError: shapes or devices differ, or the reduction is unknown.
    """
    check_tensors(_NAME, student, teacher)
    if backends.native(student, teacher):
        loss, _ = _op(student, teacher, reduction)
        return loss
    return reference(student, teacher, reduction)


@backends.register_fake(_NAME)
def _fake(
    student: torch.Tensor,
    teacher: torch.Tensor,
    reduction: str,
    save_signs: bool = False,
    dtype: torch.dtype | None = None,
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    check_reduction(_NAME, reduction)
    check_pair(_NAME, student, teacher)
    dtype = promoted((student, teacher), dtype)
    loss = (
        torch.empty_like(student, dtype=dtype)
        if reduction == "none"
        else torch.empty((), dtype=dtype, device=student.device)
    )
    if not save_signs:
        return loss, []
    size = (student.numel() + 7) // 8
    plane = (size + _SECTOR - 1) // _SECTOR * _SECTOR
    return loss, [torch.empty_strided((2, size), (plane, 1), dtype=torch.uint8, device=student.device)]


@backends.register_fake(f"{_NAME}_backward")
def _fake_backward(
    grad: torch.Tensor,
    signs: torch.Tensor,
    size: list[int],
    stride: list[int],
    student: torch.dtype | None,
    teacher: torch.dtype | None,
    reduction: str,
) -> list[torch.Tensor]:
    check_reduction(_NAME, reduction)
    # On the meta device, because only the strides of a tensor like the student are needed.
    like = torch.empty_strided(size, stride, dtype=torch.float32, device="meta")
    check_difference_signs(_NAME, signs, (like.numel() + 7) // 8)
    check_grad(_NAME, grad, signs.device, like.shape, reduction)
    return [
        torch.empty_like(like, dtype=dtype, device=signs.device)
        for dtype in (student, teacher)
        if dtype is not None
    ]
