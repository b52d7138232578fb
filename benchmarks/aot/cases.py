"""Realistic calls of every launcher, on host tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from dfad_fast.kernels import (
    batch_norm_act,
    boundary_hinge,
    channel_statistics,
    interpolated,
    kl,
    l1,
    mixing,
    pack_signs,
)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
SHAPE = (8, 64, 32)


@dataclass(frozen=True)
class Case:
    """A call of a launcher on dense, aligned tensors.

    ``narrow`` maps an element's size in bytes to the sizes of all loads that do not read the tensors' elements. None if
    the kernel reads no tensor elements.
    """

    kernel: str
    case: str
    call: Callable[[torch.dtype], None]
    narrow: Callable[[int], set[int]] | None = lambda element: set()


def _x(dtype: torch.dtype) -> torch.Tensor:
    return torch.empty(SHAPE, dtype=dtype)


def _bits() -> torch.Tensor:
    return torch.empty(_x(torch.float32).numel() // 8, dtype=torch.uint8)


def _planes() -> torch.Tensor:
    """As the op gives them, each from a multiple of 32 bytes on."""
    size = len(_bits())
    return torch.empty_strided((2, size), (-(-size // 32) * 32, 1), dtype=torch.uint8)


def _scalar(dtype: torch.dtype) -> torch.Tensor:
    return torch.empty((), dtype=dtype)


def _hinge(
    dtype: torch.dtype, reduction: str, stages: int = 1, packed: bool = False, extras: bool = False
) -> None:
    out = _x(dtype) if reduction == "none" else _scalar(dtype)
    students, teachers = [_x(dtype)] * stages, [_bits() if packed else _x(dtype)] * stages
    agreement = torch.empty(stages) if extras else None
    signs = [_bits()] * stages if extras else None
    boundary_hinge.loss(students, teachers, [1.0] * stages, 1.0, reduction, out, agreement, signs)


def _hinge_gradient(dtype: torch.dtype, reduction: str) -> None:
    grad = _x(dtype) if reduction == "none" else _scalar(dtype)
    boundary_hinge.gradient(grad, [_x(dtype)], [_bits()], [1.0], 1.0, reduction, [_x(dtype)])


def _lam_perm() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.empty(SHAPE[0]), torch.arange(SHAPE[0])


def _mixing(launcher: Callable[..., None], dtype: torch.dtype) -> None:
    launcher([_x(dtype)], *_lam_perm(), [_x(dtype)])


def _kl(dtype: torch.dtype, gradient: bool) -> None:
    s, statistics = torch.empty(8, 1024, dtype=dtype), torch.empty(5, 8)
    if gradient:
        kl.gradient(_scalar(dtype), s, s, statistics, 4.0, "mean", torch.empty_like(s), torch.empty_like(s))
    else:
        kl.loss(s, s, 4.0, "mean", _scalar(dtype), statistics)


def _channels(dtype: torch.dtype, gradient: bool, rows: bool = False) -> None:
    """Planes of channels, or rows of them as in channels_last."""
    x = torch.empty(32, 64, 64, dtype=dtype)
    x = x.transpose(1, 2) if rows else x
    moments = torch.empty(2, x.shape[1])
    if gradient:
        channel_statistics.gradient(moments, [x], moments, [torch.empty_like(x)])
    else:
        channel_statistics.statistics([x], moments)


def _features(dtype: torch.dtype, channels_last: bool) -> torch.Tensor:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return torch.empty(16, 64, 16, 16, dtype=dtype, memory_format=layout)


def _norm(dtype: torch.dtype, channels_last: bool) -> None:
    x, channels, statistics = _features(dtype, channels_last), torch.empty(64), torch.empty(2, 64)
    batch_norm_act.forward(x, x, channels, channels, False, 0.0, 1e-5, torch.empty_like(x), statistics)


def _norm_gradient(dtype: torch.dtype, channels_last: bool) -> None:
    x, channels, statistics = _features(dtype, channels_last), torch.empty(64), torch.empty(2, 64)
    grads = torch.empty_like(x), torch.empty_like(x), channels, channels
    batch_norm_act.gradient(x, x, x, channels, channels, statistics, False, 0.0, 1e-5, *grads)


def _per_sample(element: int) -> set[int]:
    return {4, 8}  # lam, perm


CASES = (
    Case("boundary_hinge._loss_kernel", "mean", lambda d: _hinge(d, "mean")),
    Case("boundary_hinge._loss_kernel", "mean, agreement, signs", lambda d: _hinge(d, "mean", extras=True)),
    Case("boundary_hinge._loss_kernel", "mean, 4 stages", lambda d: _hinge(d, "mean", stages=4)),
    Case(
        "boundary_hinge._loss_kernel", "mean, packed", lambda d: _hinge(d, "mean", packed=True), lambda e: {1}
    ),
    Case("boundary_hinge._loss_kernel", "none", lambda d: _hinge(d, "none")),
    Case("boundary_hinge._gradient_kernel", "mean", lambda d: _hinge_gradient(d, "mean"), lambda e: {1, e}),
    Case("boundary_hinge._gradient_kernel", "none", lambda d: _hinge_gradient(d, "none"), lambda e: {1}),
    Case("pack_signs._pack_kernel", "", lambda d: pack_signs.pack_signs(_x(d), _bits())),
    Case("l1._loss_kernel", "mean", lambda d: l1.loss(_x(d), _x(d), "mean", _scalar(d))),
    Case("l1._loss_kernel", "mean, signs", lambda d: l1.loss(_x(d), _x(d), "mean", _scalar(d), _planes())),
    Case("l1._loss_kernel", "none", lambda d: l1.loss(_x(d), _x(d), "none", _x(d))),
    Case(
        "l1._gradient_kernel",
        "mean",
        lambda d: l1.gradient(_scalar(d), _planes(), "mean", _x(d), _x(d)),
        None,
    ),
    Case(
        "l1._gradient_kernel",
        "none",
        lambda d: l1.gradient(_x(d), _planes(), "none", _x(d), _x(d)),
        lambda e: {1},
    ),
    Case("kl._loss_kernel", "mean", lambda d: _kl(d, False)),
    Case("kl._gradient_kernel", "mean", lambda d: _kl(d, True), lambda e: {4, e}),
    Case("channel_statistics._moments_kernel", "planes", lambda d: _channels(d, False), lambda e: {e}),
    Case(
        "channel_statistics._moments_kernel", "rows", lambda d: _channels(d, False, rows=True), lambda e: {e}
    ),
    Case("channel_statistics._join_kernel", "", lambda d: _channels(d, False), None),
    Case("channel_statistics._gradient_kernel", "planes", lambda d: _channels(d, True), lambda e: {4, e}),
    Case(
        "channel_statistics._gradient_kernel",
        "rows",
        lambda d: _channels(d, True, rows=True),
        lambda e: {4, e},
    ),
    Case("mixing._mix_kernel", "forward", lambda d: _mixing(mixing.mix, d), _per_sample),
    Case("mixing._mix_kernel", "backward", lambda d: _mixing(mixing.gradient, d), _per_sample),
    Case("_partners._inverse_kernel", "", lambda d: _mixing(mixing.gradient, d), None),
    Case(
        "interpolated._loss_kernel",
        "mean",
        lambda d: interpolated.loss(_x(d), _x(d), *_lam_perm(), "mean", _scalar(d)),
        _per_sample,
    ),
    Case(
        "interpolated._gradient_kernel",
        "mean",
        lambda d: interpolated.gradient(_scalar(d), _x(d), _x(d), *_lam_perm(), "mean", _x(d), _x(d)),
        lambda e: {4, 8, e},
    ),
    *(
        Case(f"batch_norm_act.{kernel}", layout, partial(call, channels_last=last), narrow)
        for layout, last in (("planes", False), ("channels_last", True))
        for kernel, call, narrow in (
            ("_moments_kernel", _norm, lambda e: {e}),
            ("_apply_kernel", _norm, lambda e: {4, 8}),
            ("_sums_kernel", _norm_gradient, lambda e: {4, 8}),
            ("_gradient_kernel", _norm_gradient, lambda e: {4, 8}),
            ("_statistics_kernel", _norm, None),
            ("_finish_kernel", _norm_gradient, None),
        )
    ),
    Case("_reduce._finish_kernel", "4 stages", lambda d: _hinge(d, "mean", stages=4, extras=True), None),
)
