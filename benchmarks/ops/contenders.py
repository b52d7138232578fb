"""The contenders: each op's formulas in plain PyTorch, and the op itself.

``published`` is the formula as written in the op's source, ``best`` the fastest form in eager mode that we know. If
there is only ``best``, the two are the same. torch.compile gets the best one. If another form compiles to faster code,
it gets that one, too, as ``tuned``. All take the same arguments, the inputs that :mod:`benchmarks.ops.problems` makes,
and return a tensor or a tuple of tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.measuring.results import OURS
from dfad_fast import ops

MARGIN = 1.0
TEMPERATURE = 4.0
CEILINGS = ("copy", "read")  # the machine's limits for the same number of bytes
Contender = Callable[..., Any]


def hinge_published(students: Sequence[Tensor], teachers: Sequence[Tensor]) -> Tensor:
    # Heo et al. 2019, arXiv 1811.03233, with means instead of sums.
    m = MARGIN
    losses = [
        (
            (s + m) ** 2 * ((s > -m) & (t <= 0)).to(s.dtype) + (s - m) ** 2 * ((s <= m) & (t > 0)).to(s.dtype)
        ).mean()
        for s, t in zip(students, teachers, strict=True)
    ]
    return torch.stack(losses).sum() if len(losses) > 1 else losses[0]


def _squared_distance(students: Sequence[Tensor], off: Sequence[Tensor]) -> Tensor:
    # relu(m + s)^2 or relu(m - s)^2 is the squared distance of s from the nearest point on the teacher's side of the
    # margin. With that point held constant, mse_loss needs only one kernel forward and one backward.
    losses = []
    for s, o in zip(students, off, strict=True):
        with torch.no_grad():
            target = torch.where(o, s.clamp(max=-MARGIN), s.clamp(min=MARGIN))
        losses.append(F.mse_loss(s, target))
    return torch.stack(losses).sum() if len(losses) > 1 else losses[0]


def hinge_best(students: Sequence[Tensor], teachers: Sequence[Tensor]) -> Tensor:
    return _squared_distance(students, [t <= 0 for t in teachers])


def _signed_distance(students: Sequence[Tensor], towards: Sequence[Tensor]) -> Tensor:
    # The same distance by arithmetic only. Inductor (torch 2.14) reads masks, and writes those for backward, with
    # scalar code that takes longer than everything else.
    losses = []
    for s, sign in zip(students, towards, strict=True):
        with torch.no_grad():
            target = s - sign * F.relu(MARGIN + s * sign)
        losses.append(F.mse_loss(s, target))
    return torch.stack(losses).sum() if len(losses) > 1 else losses[0]


def hinge_tuned(students: Sequence[Tensor], teachers: Sequence[Tensor]) -> Tensor:
    return _signed_distance(students, [1 - 2 * torch.sign(F.relu(t)).detach() for t in teachers])


def hinge_ours(students: Sequence[Tensor], teachers: Sequence[Tensor]) -> Tensor:
    if len(students) == 1:
        return ops.boundary_hinge_loss(students[0], teachers[0], MARGIN)
    return ops.boundary_hinge_loss(students, teachers, MARGIN)


# With the teacher's signs saved from its forward pass: as a mask, as int8 (1 if off, -1 if on), or packed.
def hinge_kept_best(
    students: Sequence[Tensor], off: Sequence[Tensor], towards: object, packed: object
) -> Tensor:
    return _squared_distance(students, off)


def hinge_kept_tuned(
    students: Sequence[Tensor], off: object, towards: Sequence[Tensor], packed: object
) -> Tensor:
    return _signed_distance(students, [t.to(s.dtype) for s, t in zip(students, towards, strict=True)])


def hinge_kept_ours(
    students: Sequence[Tensor], off: object, towards: object, packed: Sequence[ops.PackedSigns]
) -> Tensor:
    if len(students) == 1:
        return ops.boundary_hinge_loss(students[0], packed[0], MARGIN)
    return ops.boundary_hinge_loss(students, packed, MARGIN)


def pack_signs_best(teacher: Tensor, places: Tensor) -> Tensor:
    return (~(teacher <= 0)).reshape(-1, 8).to(torch.uint8).mul_(places).sum(1, dtype=torch.uint8)


def pack_signs_ours(teacher: Tensor, places: object) -> Tensor:
    return ops.pack_signs(teacher).bits


def l1_best(student: Tensor, teacher: Tensor) -> Tensor:
    return F.l1_loss(student, teacher)


def kl_published(student: Tensor, teacher: Tensor) -> Tensor:
    # As in most published distillation code, following Hinton et al. 2015, arXiv 1503.02531.
    q, p = F.log_softmax(student / TEMPERATURE, dim=1), F.softmax(teacher / TEMPERATURE, dim=1)
    return F.kl_div(q, p, reduction="batchmean")


def kl_best(student: Tensor, teacher: Tensor) -> Tensor:
    q, p = F.log_softmax(student / TEMPERATURE, dim=1), F.log_softmax(teacher / TEMPERATURE, dim=1)
    return F.kl_div(q, p, reduction="batchmean", log_target=True)


def kl_ours(student: Tensor, teacher: Tensor) -> Tensor:
    return ops.kl_discrepancy(student, teacher, TEMPERATURE)


def batch_norm_act_best(x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    # He et al. 2016, arXiv 1512.03385, in the usual form, without running statistics.
    return F.relu(F.batch_norm(x, None, None, weight, bias, training=True) + residual)


def batch_norm_act_ours(x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return ops.batch_norm_act(x, weight, bias, residual=residual)


def _distance(mean: Tensor, variance: Tensor, running_mean: Tensor, running_variance: Tensor) -> Tensor:
    norm = torch.linalg.vector_norm
    return norm(mean - running_mean) + norm(variance - running_variance)


def statistics_published(
    features: Sequence[Tensor], means: Sequence[Tensor], variances: Sequence[Tensor]
) -> Tensor:
    # Yin et al. 2020, arXiv 1912.08795: DeepInversion's hook at each batch norm layer.
    losses = []
    for x, *running in zip(features, means, variances, strict=True):
        mean = x.mean([0, 2, 3])
        variance = x.permute(1, 0, 2, 3).contiguous().view(x.shape[1], -1).var(1, unbiased=False)
        losses.append(_distance(mean, variance, *running))
    return torch.stack(losses).sum()


def statistics_by_var_mean(
    features: Sequence[Tensor], means: Sequence[Tensor], variances: Sequence[Tensor]
) -> Tensor:
    losses = []
    for x, *running in zip(features, means, variances, strict=True):
        variance, mean = torch.var_mean(x, (0, 2, 3), correction=0)
        losses.append(_distance(mean, variance, *running))
    return torch.stack(losses).sum()


def statistics_best(
    features: Sequence[Tensor], means: Sequence[Tensor], variances: Sequence[Tensor]
) -> Tensor:
    # The mean of squares instead of var_mean, which is slow for channels_last.
    losses = []
    for x, *running in zip(features, means, variances, strict=True):
        rows = x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])
        mean = rows.mean(0)
        variance = (rows - mean).square().mean(0)
        losses.append(_distance(mean, variance, *running))
    return torch.stack(losses).sum()


def _per_sample(lam: Tensor, x: Tensor) -> Tensor:
    return lam.to(x.dtype).view(-1, *[1] * (x.dim() - 1))


def mixup_published(x: Tensor, lam: Tensor, perm: Tensor) -> Tensor:
    # Zhang et al. 2018, arXiv 1710.09412.
    weight = _per_sample(lam, x)
    return weight * x + (1 - weight) * x[perm]


def mixup_best(x: Tensor, lam: Tensor, perm: Tensor) -> Tensor:
    return torch.lerp(x.index_select(0, perm), x, _per_sample(lam, x))


def virtual_batch_published(x: Tensor, y: Tensor, lam: Tensor, perm: Tensor) -> tuple[Tensor, Tensor]:
    return mixup_published(x, lam, perm), mixup_published(y, lam, perm)


def virtual_batch_best(x: Tensor, y: Tensor, lam: Tensor, perm: Tensor) -> tuple[Tensor, Tensor]:
    return mixup_best(x, lam, perm), mixup_best(y, lam, perm)


def interpolated_published(student: Tensor, teacher: Tensor, lam: Tensor, perm: Tensor) -> Tensor:
    return F.l1_loss(student, mixup_published(teacher, lam, perm))


def interpolated_best(student: Tensor, teacher: Tensor, lam: Tensor, perm: Tensor) -> Tensor:
    return F.l1_loss(student, mixup_best(teacher, lam, perm))


def convolution_best(x: Tensor, weight: Tensor) -> Tensor:
    return F.conv2d(x, weight, padding=weight.shape[2] // 2)


def convolution_ours(x: Tensor, weight: Tensor) -> Tensor:
    return ops.narrow_conv2d(x, weight, tile=4 if weight.shape[2] == 3 else 0)


def halving_best(x: Tensor, weight: Tensor) -> Tensor:
    return F.conv2d(x, weight, stride=2, padding=weight.shape[2] // 2)


def halving_ours(x: Tensor, weight: Tensor) -> Tensor:
    return ops.narrow_conv2d(x, weight, stride=2)


def build(name: str, formulas: dict[str, Contender], ours: Contender) -> Contender:
    """The contender of this name: ``dfad_fast``, ``eager, FORMULA`` or ``compile, FORMULA``."""
    if name == OURS:
        return ours
    how, _, formula = name.partition(", ")
    return torch.compile(formulas[formula], dynamic=False) if how == "compile" else formulas[formula]
