r"""Convex combinations of the samples of a batch.

.. math:: \tilde x_i = \lambda_i x_i + (1 - \lambda_i)\, x_{\pi(i)} \qquad
          \partial L/\partial x_i = \lambda_i g_i + (1 - \lambda_{j})\, g_{j}, \quad j = \pi^{-1}(i)

Because :math:`\pi` is a permutation, the gradient is itself a mixture, by the inverse permutation. It gathers and needs
no atomics.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import torch

from dfad_fast import backends
from dfad_fast.ops._checks import check_mixing, check_permutation
from dfad_fast.ops._subclasses import beside
from dfad_fast.private_torch import inside_dispatch_mode, inside_jit_trace

_NAME = "mixup"
_op = backends.op(_NAME)
_WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


Lam: TypeAlias = float | torch.Tensor | Sequence[float] | np.ndarray | np.generic


def lam_tensor(op: str, lam: Lam, device: torch.device) -> torch.Tensor:
    """``lam`` as the op takes it.

    Args:
        op: name of the op for error messages.
        lam: one number, or one per sample.
        device: device of the batch.

    Returns:
        A tensor unchanged, except that shape [1] becomes a scalar and integers float64; a number as a float64 scalar
        on the CPU; several numbers as a float64 tensor [B] on ``device``.

    Raises:
        TypeError: lam is not a real number, nor a list, array or tensor of real numbers.
        ValueError: it is not finite, if it can be read without waiting for a device.
    """
    if isinstance(lam, torch.Tensor):
        return _checked(op, lam)
    if not isinstance(lam, int | float | torch.SymFloat):
        return _of_several(op, lam, device)
    if torch.compiler.is_compiling():
        # A product keeps the number a variable; with torch.full each value would trigger a recompile.
        return torch.ones((), dtype=torch.float64, device="cpu") * lam
    if not _is_finite(lam):
        raise _not_finite(op, lam)
    return torch.full((), lam, dtype=torch.float64, device="cpu")


def _checked(op: str, lam: torch.Tensor) -> torch.Tensor:
    """For a tensor. Its values are read only on the CPU, and not where they are traced."""
    if lam.dtype in _WHOLE:
        lam = lam.double()
    if lam.dim() == 1 and lam.shape[0] == 1:
        lam = lam.reshape(())
    traced = torch.compiler.is_compiling() or inside_jit_trace() or inside_dispatch_mode()
    if (
        traced
        or backends.inside_transform()
        or type(lam) is not torch.Tensor
        or not lam.is_cpu
        or lam.layout is not torch.strided
        or lam.is_complex()
        or lam.dim() > 1
    ):
        return lam
    values = lam.tolist() if lam.dim() else (lam.item(),)
    if not math.isfinite(sum(values)):  # quicker than one by one, for nearly all calls
        bad = next((value for value in values if not math.isfinite(value)), None)
        if bad is not None:  # the sum of large numbers may overflow
            raise _not_finite(op, bad)
    return lam


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond the range of float64
        return False


def _not_finite(op: str, value: float) -> ValueError:
    return ValueError(f"{op}: lam must be finite, got {value!s:.20}")


def _of_several(op: str, lam: object, device: torch.device) -> torch.Tensor:
    """For arguments that are neither a Python number nor a tensor."""
    if not isinstance(lam, list | tuple | np.ndarray | np.generic):
        raise TypeError(f"{op}: lam must be a number or a tensor, got {type(lam).__name__}")
    if isinstance(lam, list | tuple) and any(isinstance(one, torch.Tensor) for one in lam):
        if all(isinstance(one, torch.Tensor) and one.numel() == 1 for one in lam):
            return _checked(op, torch.stack([one.reshape(()) for one in lam]).to(device))
        raise TypeError(f"{op}: lam must be numbers or tensors of one element each, got both or others")
    try:
        values = np.asarray(lam)
    except ValueError as error:  # for lists of different lengths
        raise TypeError(f"{op}: lam must be a number or one per sample, got {type(lam).__name__}") from error
    if values.dtype.kind not in "fiu":
        raise TypeError(f"{op}: lam must be real numbers, got {type(lam).__name__} of {values.dtype}")
    wide = _checked(op, torch.from_numpy(values.astype(np.float64)))
    return wide.reshape(()) if wide.numel() == 1 else wide.to(device)


def mix(x: torch.Tensor, lam: torch.Tensor, rest: torch.Tensor, perm: torch.Tensor) -> torch.Tensor:
    """``lam x + rest x[perm]`` in plain PyTorch.

    Args:
        x: [B, ...].
        lam: [B] or one element.
        rest: as ``lam``.
        perm: [B], int64.

    Returns:
        A tensor of the shape and dtype of x. Arithmetic is float32, or float64 if x is float64.
    """
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    per_sample = (-1, *[1] * (x.dim() - 1))
    weight, other = (beside(w.to(x.device, dtype).reshape(per_sample), x) for w in (lam, rest))
    wide, perm = x.to(dtype), beside(perm, x)
    return (weight * wide + other * wide[perm]).to(x.dtype)


def reference(tensors: Sequence[torch.Tensor], lam: torch.Tensor, perm: torch.Tensor) -> list[torch.Tensor]:
    """The formula in plain PyTorch for several tensors of one batch, differentiable any number of times."""
    check_mixing(_NAME, tensors, lam, perm)
    check_permutation(_NAME, perm)
    lam = lam.detach()  # also drops a forward-mode tangent
    wide = lam.double() if any(x.dtype == torch.float64 for x in tensors) else lam.float()
    return [mix(x, wide, 1 - wide, perm) for x in tensors]


def _mixed(tensors: list[torch.Tensor], lam: Lam, perm: torch.Tensor) -> list[torch.Tensor]:
    for value in (*tensors, perm):
        if not isinstance(value, torch.Tensor):
            raise TypeError(f"{_NAME}: the batch and perm must be tensors, got {type(value).__name__}")
    lam = lam_tensor(_NAME, lam, tensors[0].device)
    if backends.native(*tensors, perm):
        return _op(tensors, lam, perm)
    return reference(tensors, lam, perm)


def mixup(x: torch.Tensor, lam: Lam, perm: torch.Tensor) -> torch.Tensor:
    r"""Mix each sample of a batch with another one, in one pass.

    :math:`\tilde x_i = \lambda_i x_i + (1 - \lambda_i)\, x_{\pi(i)}`. The gradient flows to ``x`` through both
    occurrences, and never to ``lam``. Source: Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization",
    arXiv 1710.09412; used by Qu et al. 2021, arXiv 2102.11638, for virtual samples.

    Args:
        x: a batch ``[B, ...]``; float64, float32, float16 or bfloat16.
        lam: :math:`\lambda`: a number, a 0-dim or one-element tensor, or one number per sample as a tensor ``[B]``, a
            list or a numpy array. Any finite value is allowed; outside [0, 1] the result extrapolates. On a GPU a
            tensor's values are not read, and NaN gives NaN. A number, a list, an array or a tensor on the CPU is read
            during the call, so a CUDA graph keeps its value: pass a tensor on x's device to change it between replays.
        perm: :math:`\pi`, an int64 permutation ``[B]`` on x's device. It is checked on the CPU only, since on other
            devices the check would wait for the device. On a GPU a row whose index is out of range becomes NaN. If an
            index repeats, the gradient counts the last of its rows, and a row that no index names gets NaN as gradient.

    Returns:
        The mixtures, in x's shape, dtype and memory layout. Arithmetic is float32, or float64 if x is float64.

    Raises:
        TypeError: x is not floating-point, lam is not real, or perm is not int64.
        ValueError: shapes or devices do not match, lam is not finite or requires a gradient, or perm is not a
            permutation.
    """
    return _mixed([x], lam, perm)[0]


def virtual_batch(
    x: torch.Tensor, y: torch.Tensor, lam: Lam, perm: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    r"""Virtual samples and their virtual labels: :func:`mixup` of images and teacher outputs, in one launch.

    :math:`\tilde x_i = \lambda_i x_i + (1 - \lambda_i)\, x_{\pi(i)}`, and the same for ``y``. Sources: as for
    :func:`mixup`; mixing the teacher's outputs into labels follows Qu et al. 2021, arXiv 2102.11638.

    Args:
        x: images ``[B, ...]``; float64, float32, float16 or bfloat16.
        y: teacher outputs ``[B, ...]``, on the same device; its dtype may differ from x's.
        lam: as for :func:`mixup`.
        perm: as for :func:`mixup`.

    Returns:
        The mixed images and the mixed labels, each in its input's shape, dtype and memory layout.

    Raises:
        TypeError: x or y is not floating-point, lam is not real, or perm is not int64.
        ValueError: as for :func:`mixup`, or x and y have different batch sizes.
    """
    mixed_x, mixed_y = _mixed([x, y], lam, perm)
    return mixed_x, mixed_y


@backends.register_fake(_NAME)
def _fake(tensors: list[torch.Tensor], lam: torch.Tensor, perm: torch.Tensor) -> list[torch.Tensor]:
    check_mixing(_NAME, tensors, lam, perm)
    return [torch.empty_like(x) for x in tensors]


@backends.register_fake(f"{_NAME}_backward")
def _fake_backward(grads: list[torch.Tensor], lam: torch.Tensor, perm: torch.Tensor) -> list[torch.Tensor]:
    return [torch.empty_like(g) for g in grads]
