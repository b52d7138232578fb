r"""Kullback-Leibler divergence of the teacher's softened outputs from the student's.

.. math:: L = \mathrm{reduce} \sum_c p_c (\log p_c - \log q_c), \quad
          p = \mathrm{softmax}(t / \tau), \quad q = \mathrm{softmax}(s / \tau)

.. math:: \partial L/\partial s = g\,(q - p) / \tau \qquad
          \partial L/\partial t = g\,p\,(\log p - \log q - L) / \tau
"""

from __future__ import annotations

import math

import torch

from dfad_fast import backends
from dfad_fast.ops._checks import check_logits, check_pair, check_reduction, check_temperature, check_tensors
from dfad_fast.ops._dtypes import compute_dtype, empty_gradients, promoted, reduce, result_dtype
from dfad_fast.ops._numbers import Number, number

_NAME = "kl_discrepancy"
_op = backends.op(_NAME)


def _check(student: torch.Tensor, teacher: torch.Tensor, temperature: Number, reduction: str) -> None:
    check_reduction(_NAME, reduction)
    check_temperature(_NAME, temperature)
    check_pair(_NAME, student, teacher)
    check_logits(_NAME, student)


def reference(
    student: torch.Tensor, teacher: torch.Tensor, temperature: Number = 1.0, reduction: str = "mean"
) -> torch.Tensor:
    """The formula in plain PyTorch, differentiable any number of times."""
    _check(student, teacher, temperature, reduction)
    dtype = compute_dtype(student, teacher)
    # Clamped to finite positive numbers for extreme temperatures, because 0 times a logit of -inf is NaN.
    least, most = torch.finfo(dtype).tiny, torch.finfo(dtype).max
    inverse: Number
    if isinstance(temperature, torch.Tensor):
        inverse = temperature.to(student.device, dtype).reciprocal().clamp(least, most)
    else:
        inverse = min(max(1 / temperature, least), most)
    log_q, log_p = (torch.log_softmax(x.to(dtype) * inverse, dim=1) for x in (student, teacher))
    p = log_p.exp()
    # A class of probability 0 contributes 0. Its logarithm, -inf, must enter neither the product nor its gradient.
    difference = torch.where(p == 0, 0.0, log_p - log_q)
    return reduce((p * difference).sum(1), reduction).to(result_dtype((student, teacher)))


def kl_discrepancy(
    student: torch.Tensor, teacher: torch.Tensor, temperature: Number = 1.0, reduction: str = "mean"
) -> torch.Tensor:
    r"""Disagreement of two networks: the divergence of the teacher's softened outputs from the student's.

    :math:`L = \sum_c p_c (\log p_c - \log q_c)` per sample, with :math:`p = \mathrm{softmax}(t/\tau)` and
    :math:`q = \mathrm{softmax}(s/\tau)`. Both sides get gradients; a side that requires none costs nothing. A class to
    which the teacher gives probability 0 contributes 0, so logits of -inf may mask classes. There is no factor
    :math:`\tau^2`: multiply by it to keep the scale of the gradients, as Hinton et al. do. For the other direction swap
    the arguments. Source: Hinton et al. 2015, "Distilling the Knowledge in a Neural Network", arXiv 1503.02531; as a
    discrepancy for generator and student: Micaelli and Storkey 2019, arXiv 1905.09768.

    Args:
        student: logits ``[B, C]`` or ``[B, C, ...]``; float64, float32, float16 or bfloat16.
        teacher: logits of the same shape, on the same device; its dtype may differ.
        temperature: :math:`\tau`, finite and positive. If it is a tensor of one element that requires a gradient, it
            gets one, in plain PyTorch.
        reduction: ``"mean"`` over samples (and positions), ``"sum"``, or ``"none"`` for one value per sample.

    Returns:
        A 0-dim tensor, or ``[B, ...]`` for ``"none"``, in the promoted dtype (float32 under autocast, unless an
        input is float64). Arithmetic is float32, or float64 if an input is float64; probabilities below float32's
        normal range may count as 0. Without samples NaN for ``"mean"`` and 0 for ``"sum"``; without classes 0.

    Raises:
        TypeError: an input is not a floating-point tensor, or temperature is not a number.
        ValueError: shapes or devices differ, there is no class dimension, or temperature or reduction is out of
            range.
    """
    check_tensors(_NAME, student, teacher)
    if type(temperature) is not float:
        temperature = number(_NAME, "temperature", temperature)
    if not isinstance(temperature, torch.Tensor) and backends.native(student, teacher):
        return _op(student, teacher, temperature, reduction)[0]
    return reference(student, teacher, temperature, reduction)


@backends.register_fake(_NAME)
def _fake(
    student: torch.Tensor,
    teacher: torch.Tensor,
    temperature: float,
    reduction: str,
    dtype: torch.dtype | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    _check(student, teacher, temperature, reduction)
    rows = (student.shape[0], *student.shape[2:])
    loss = student.new_empty(rows if reduction == "none" else (), dtype=promoted((student, teacher), dtype))
    return loss, student.new_empty((5, math.prod(rows)), dtype=compute_dtype(student, teacher))


@backends.register_fake(f"{_NAME}_backward")
def _fake_backward(
    grad: torch.Tensor,
    student: torch.Tensor,
    teacher: torch.Tensor,
    statistics: torch.Tensor,
    temperature: float,
    reduction: str,
    student_grad: bool,
    teacher_grad: bool,
) -> list[torch.Tensor]:
    return empty_gradients(student, teacher, student_grad, teacher_grad)
