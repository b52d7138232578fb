"""Registers the Triton launchers with the dispatcher.

Each kernel here first calls the op's fake kernel, which checks the arguments and allocates the results. Errors and
strides therefore equal those of the other backends. Triton itself is imported at an op's first call.
"""

from __future__ import annotations

import torch

from dfad_fast.ops import batch_norm, boundary_hinge, channels, interpolated, kl, l1, mixing, packed_signs
from dfad_fast.ops._checks import (
    check_grad,
    check_logits,
    check_mixing,
    check_packed,
    check_pair,
    check_permutation,
    check_reduction,
    check_statistics,
    check_temperature,
)
from dfad_fast.ops._dtypes import compute_dtype

Wanted = tuple[torch.Tensor | None, torch.Tensor | None]


def _both(grads: list[torch.Tensor], student: bool, teacher: bool) -> Wanted:
    """The student's and the teacher's gradient, None if not wanted, from a list of the wanted ones."""
    return grads[0] if student else None, grads[-1] if teacher else None


def _boundary_hinge_loss(
    student: list[torch.Tensor],
    teacher: list[torch.Tensor],
    weights: list[float],
    margin: float,
    reduction: str,
    agreement: bool = False,
    save_signs: bool = False,
    dtype: torch.dtype | None = None,
) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
    results = boundary_hinge._fake(student, teacher, weights, margin, reduction, agreement, save_signs, dtype)
    loss, shares, signs = results
    from dfad_fast.kernels import boundary_hinge as kernels

    unpacked = iter(signs)
    stages = [next(unpacked) if save_signs and t.dtype != torch.uint8 else None for t in teacher]
    kernels.loss(student, teacher, weights, margin, reduction, loss, shares if agreement else None, stages)
    return results


def _boundary_hinge_loss_backward(
    grad: torch.Tensor,
    student: list[torch.Tensor],
    signs: list[torch.Tensor],
    weights: list[float],
    margin: float,
    reduction: str,
) -> list[torch.Tensor]:
    boundary_hinge._check(student, signs, weights, margin, reduction)
    for s, bits in zip(student, signs, strict=True):
        check_packed(boundary_hinge._NAME, s, bits)
    check_grad(boundary_hinge._NAME, grad, student[0].device, student[0].shape, reduction)
    grads = boundary_hinge._fake_backward(grad, student, signs, weights, margin, reduction)
    from dfad_fast.kernels import boundary_hinge as kernels

    kernels.gradient(grad, student, signs, weights, margin, reduction, grads)
    return grads


def _pack_signs(teacher: torch.Tensor) -> torch.Tensor:
    bits = packed_signs._fake(teacher)
    from dfad_fast.kernels import pack_signs as kernels

    kernels.pack_signs(teacher, bits)
    return bits


def _l1_discrepancy(
    student: torch.Tensor,
    teacher: torch.Tensor,
    reduction: str,
    save_signs: bool = False,
    dtype: torch.dtype | None = None,
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    loss, signs = l1._fake(student, teacher, reduction, save_signs, dtype)
    from dfad_fast.kernels import l1 as kernels

    kernels.loss(student, teacher, reduction, loss, signs[0] if save_signs else None)
    return loss, signs


def _l1_discrepancy_backward(
    grad: torch.Tensor,
    signs: torch.Tensor,
    size: list[int],
    stride: list[int],
    student: torch.dtype | None,
    teacher: torch.dtype | None,
    reduction: str,
) -> list[torch.Tensor]:
    grads = l1._fake_backward(grad, signs, size, stride, student, teacher, reduction)
    from dfad_fast.kernels import l1 as kernels

    kernels.gradient(grad, signs, reduction, *_both(grads, student is not None, teacher is not None))
    return grads


def _kl_discrepancy(
    student: torch.Tensor,
    teacher: torch.Tensor,
    temperature: float,
    reduction: str,
    dtype: torch.dtype | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    loss, statistics = kl._fake(student, teacher, temperature, reduction, dtype)
    from dfad_fast.kernels import kl as kernels

    kernels.loss(student, teacher, temperature, reduction, loss, statistics)
    return loss, statistics


def _kl_discrepancy_backward(
    grad: torch.Tensor,
    student: torch.Tensor,
    teacher: torch.Tensor,
    statistics: torch.Tensor,
    temperature: float,
    reduction: str,
    student_grad: bool,
    teacher_grad: bool,
) -> list[torch.Tensor]:
    check_reduction(kl._NAME, reduction)
    check_temperature(kl._NAME, temperature)
    check_pair(kl._NAME, student, teacher)
    check_logits(kl._NAME, student)
    rows = torch.Size((student.shape[0], *student.shape[2:]))
    check_grad(kl._NAME, grad, student.device, rows, reduction)
    check_statistics(kl._NAME, statistics, student.device, rows.numel(), compute_dtype(student, teacher))
    grads = kl._fake_backward(
        grad, student, teacher, statistics, temperature, reduction, student_grad, teacher_grad
    )
    from dfad_fast.kernels import kl as kernels

    wanted = _both(grads, student_grad, teacher_grad)
    kernels.gradient(grad, student, teacher, statistics, temperature, reduction, *wanted)
    return grads


def _channel_statistics(features: list[torch.Tensor]) -> torch.Tensor:
    statistics = channels._fake(features)
    from dfad_fast.kernels import channel_statistics as kernels

    kernels.statistics(features, statistics)
    return statistics


def _channel_statistics_backward(
    grad: torch.Tensor, features: list[torch.Tensor], statistics: torch.Tensor
) -> list[torch.Tensor]:
    grads = channels._fake_backward(grad, features, statistics)
    from dfad_fast.kernels import channel_statistics as kernels

    kernels.gradient(grad, features, statistics, grads)
    return grads


def _mixup(tensors: list[torch.Tensor], lam: torch.Tensor, perm: torch.Tensor) -> list[torch.Tensor]:
    mixed = mixing._fake(tensors, lam, perm)
    check_permutation(mixing._NAME, perm)
    from dfad_fast.kernels import mixing as kernels

    kernels.mix(tensors, lam, perm, mixed)
    return mixed


def _mixup_backward(grads: list[torch.Tensor], lam: torch.Tensor, perm: torch.Tensor) -> list[torch.Tensor]:
    check_mixing(mixing._NAME, grads, lam, perm)
    check_permutation(mixing._NAME, perm)
    results = mixing._fake_backward(grads, lam, perm)
    from dfad_fast.kernels import mixing as kernels

    kernels.gradient(grads, lam, perm, results)
    return results


def _interpolated_l1(
    student: torch.Tensor,
    teacher: torch.Tensor,
    lam: torch.Tensor,
    perm: torch.Tensor,
    reduction: str,
    dtype: torch.dtype | None = None,
) -> torch.Tensor:
    loss = interpolated._fake(student, teacher, lam, perm, reduction, dtype)
    check_permutation(interpolated._NAME, perm)
    from dfad_fast.kernels import interpolated as kernels

    kernels.loss(student, teacher, lam, perm, reduction, loss)
    return loss


def _interpolated_l1_backward(
    grad: torch.Tensor,
    student: torch.Tensor,
    teacher: torch.Tensor,
    lam: torch.Tensor,
    perm: torch.Tensor,
    reduction: str,
    student_grad: bool,
    teacher_grad: bool,
) -> list[torch.Tensor]:
    interpolated._check(student, teacher, lam, perm, reduction)
    check_grad(interpolated._NAME, grad, student.device, student.shape, reduction)
    check_permutation(interpolated._NAME, perm)
    grads = interpolated._fake_backward(
        grad, student, teacher, lam, perm, reduction, student_grad, teacher_grad
    )
    from dfad_fast.kernels import interpolated as kernels

    wanted = _both(grads, student_grad, teacher_grad)
    kernels.gradient(grad, student, teacher, lam, perm, reduction, *wanted)
    return grads


def _batch_norm_act(
    x: torch.Tensor,
    residual: torch.Tensor | None,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    given: torch.Tensor | None,
    constant: bool,
    slope: float,
    eps: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    out, statistics = batch_norm._fake(x, residual, weight, bias, given, constant, slope, eps)
    from dfad_fast.kernels import batch_norm_act as kernels

    if given is not None:
        statistics.copy_(given)
    kernels.forward(x, residual, weight, bias, given is not None, slope, eps, out, statistics)
    return out, statistics


def _batch_norm_act_backward(
    grad: torch.Tensor,
    x: torch.Tensor,
    out: torch.Tensor | None,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    statistics: torch.Tensor,
    constant: bool,
    slope: float,
    eps: float,
    wanted: list[bool],
) -> list[torch.Tensor]:
    grads = batch_norm._fake_backward(grad, x, out, weight, bias, statistics, constant, slope, eps, wanted)
    from dfad_fast.kernels import batch_norm_act as kernels

    left = iter(grads)
    places = [next(left) if want else None for want in wanted]
    kernels.gradient(grad, x, out, weight, bias, statistics, constant, slope, eps, *places)
    return grads


_KERNELS = {
    "boundary_hinge_loss": _boundary_hinge_loss,
    "boundary_hinge_loss_backward": _boundary_hinge_loss_backward,
    "pack_signs": _pack_signs,
    "l1_discrepancy": _l1_discrepancy,
    "l1_discrepancy_backward": _l1_discrepancy_backward,
    "kl_discrepancy": _kl_discrepancy,
    "kl_discrepancy_backward": _kl_discrepancy_backward,
    "channel_statistics": _channel_statistics,
    "channel_statistics_backward": _channel_statistics_backward,
    "mixup": _mixup,
    "mixup_backward": _mixup_backward,
    "interpolated_l1": _interpolated_l1,
    "interpolated_l1_backward": _interpolated_l1_backward,
    "batch_norm_act": _batch_norm_act,
    "batch_norm_act_backward": _batch_norm_act_backward,
}


def register(key: str) -> torch.library.Library:
    """Register the Triton kernels for a dispatch key: ``"CUDA"``, or ``"CPU"`` in Triton's interpreter.

    They override kernels that are already registered for the key. The registrations last until the returned library is
    freed or its ``_destroy`` is called.
    """
    library = torch.library.Library("dfad_fast", "IMPL", key)
    for name, kernel in _KERNELS.items():
        library.impl(name, kernel, allow_override=True)
    return library
