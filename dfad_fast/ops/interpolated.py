r"""L1 discrepancy from virtual labels, without materializing the labels.

.. math:: L = \mathrm{reduce}\,|s_i - y_i|, \quad y_i = \lambda_i t_i + (1 - \lambda_i)\, t_{\pi(i)}

With :math:`v = g\,\mathrm{sign}(s - y)`:

.. math:: \partial L/\partial s_i = v_i \qquad
          \partial L/\partial t_i = -\lambda_i v_i - (1 - \lambda_j)\, v_j, \quad j = \pi^{-1}(i)
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from dfad_fast import backends
from dfad_fast.ops._checks import (
    check_mixing,
    check_pair,
    check_permutation,
    check_reduction,
    check_tensors,
)
from dfad_fast.ops._dtypes import compute_dtype, empty_gradients, promoted, result_dtype
from dfad_fast.ops.mixing import Lam, lam_tensor, mix

_NAME = "interpolated_l1"
_op = backends.op(_NAME)


def _check(
    student: torch.Tensor, teacher: torch.Tensor, lam: torch.Tensor, perm: torch.Tensor, reduction: str
) -> None:
    check_reduction(_NAME, reduction)
    check_pair(_NAME, student, teacher)
    check_mixing(_NAME, [teacher], lam, perm)


def reference(
    student: torch.Tensor,
    teacher: torch.Tensor,
    lam: Lam,
    perm: torch.Tensor,
    reduction: str = "mean",
) -> torch.Tensor:
    """The formula in plain PyTorch, differentiable any number of times."""
    lam = lam_tensor(_NAME, lam, student.device)
    _check(student, teacher, lam, perm, reduction)
    check_permutation(_NAME, perm)
    dtype = compute_dtype(student, teacher)
    lam = lam.detach().to(dtype)
    label = mix(teacher.to(dtype), lam, 1 - lam, perm)
    return F.l1_loss(student.to(dtype), label, reduction=reduction).to(result_dtype((student, teacher)))


def interpolated_l1(
    student: torch.Tensor,
    teacher: torch.Tensor,
    lam: Lam,
    perm: torch.Tensor,
    reduction: str = "mean",
) -> torch.Tensor:
    r"""Disagreement with the teacher on virtual samples, whose labels are mixed from its outputs on the fly.

    :math:`L = \mathrm{mean}\,|s_i - (\lambda_i t_i + (1-\lambda_i) t_{\pi(i)})|`, which equals
    ``l1_discrepancy(student, mixup(teacher, lam, perm))`` without building the labels or rounding them to the teacher's
    dtype. Gradients flow to the student and the teacher's outputs (through both occurrences), never to ``lam``. Source:
    Qu et al. 2021, arXiv 2102.11638; that labels are mixed teacher outputs is our reading of the paper.

    Args:
        student: the student's outputs for the virtual samples, ``[B, ...]``; float64, float32, float16 or bfloat16.
        teacher: the teacher's outputs for the samples that were mixed, same shape and device; its dtype may differ.
        lam: :math:`\lambda`, as for :func:`mixup`.
        perm: :math:`\pi`, an int64 permutation ``[B]``; on the CPU it is checked (see :func:`mixup`).
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Returns:
        A 0-dim tensor, or for ``"none"`` a tensor of the student's shape, in the promoted dtype of student and teacher
        (float32 under autocast, unless an input is float64). Arithmetic is float32, or float64 if an input is float64.

    Raises:
        TypeError: an input is not floating-point, lam is not real, or perm is not int64.
        ValueError: shapes or devices do not match, lam is not finite or requires a gradient, perm is not a permutation,
            or the reduction is unknown.
    """
    check_tensors(_NAME, student, teacher, perm, names="student, teacher and perm")
    lam = lam_tensor(_NAME, lam, student.device)
    if backends.native(student, teacher, perm):
        return _op(student, teacher, lam, perm, reduction)
    return reference(student, teacher, lam, perm, reduction)


@backends.register_fake(_NAME)
def _fake(
    student: torch.Tensor,
    teacher: torch.Tensor,
    lam: torch.Tensor,
    perm: torch.Tensor,
    reduction: str,
    dtype: torch.dtype | None = None,
) -> torch.Tensor:
    _check(student, teacher, lam, perm, reduction)
    dtype = promoted((student, teacher), dtype)
    if reduction == "none":
        return torch.empty_like(student, dtype=dtype)
    return torch.empty((), dtype=dtype, device=student.device)


@backends.register_fake(f"{_NAME}_backward")
def _fake_backward(
    grad: torch.Tensor,
    student: torch.Tensor,
    teacher: torch.Tensor,
    lam: torch.Tensor,
    perm: torch.Tensor,
    reduction: str,
    student_grad: bool,
    teacher_grad: bool,
) -> list[torch.Tensor]:
    return empty_gradients(student, teacher, student_grad, teacher_grad)
