"""What the tests of ops share: dtypes, layouts, the table of losses, and a comparison with the float64 reference."""

import functools
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch

from dfad_fast.ops import (
    boundary_hinge,
    boundary_hinge_loss,
    interpolated,
    interpolated_l1,
    kl,
    kl_discrepancy,
    l1,
    l1_discrepancy,
    pack_signs,
)
from tests import under_test

DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
DTYPE_PAIRS = tuple(itertools.product(DTYPES, DTYPES))
compiled = pytest.mark.backends("cpp", "triton", "cuda-shim", *under_test.PTX)
# The PTX emulator knows torch's own memory alone; everything else is out of bounds.
memory_of_others = pytest.mark.backends(*(name for name in under_test.BACKENDS if name not in under_test.PTX))
REDUCTIONS = ("mean", "sum", "none")
SHAPE = (3, 5, 4, 6)


def contiguous(x):
    return x.contiguous()


def channels_last(x):
    return x.to(memory_format=torch.channels_last)


def transposed(x):
    return x.transpose(1, 3).contiguous().transpose(1, 3)


def sliced(x):
    """A view with a storage offset and gaps, whose gaps are NaN: reading one would show."""
    big = x.new_full([n + 2 for n in x.shape], float("nan"))
    view = big[tuple(slice(1, n + 1) for n in x.shape)]
    return view.copy_(x)


def stepped(x):
    big = x.new_full([*x.shape[:-1], 2 * x.shape[-1]], float("nan"))
    return big[..., ::2].copy_(x)


def expanded(x):
    return x[:, :1].expand(x.shape)


def batch_innermost(x):
    return x.movedim(0, -1).contiguous().movedim(-1, 0)


LAYOUTS = (contiguous, channels_last, transposed, batch_innermost, sliced, stepped, expanded)


@functools.cache
def mixing(batch):
    """The same lam and perm for each batch size. lam is a multiple of 1/256, so that float32 mixes halves exactly."""
    generator = torch.Generator().manual_seed(batch)
    lam = torch.randint(0, 257, (batch,), generator=generator, device="cpu") / 256
    perm = torch.randperm(batch, generator=generator, device="cpu")
    return lam.to(torch.get_default_device()), perm.to(torch.get_default_device())


def mixing_of(x):
    return mixing(x.shape[0])


@dataclass(frozen=True)
class Loss:
    """A loss over pairs, and its reference, both as functions of (student, teacher, reduction)."""

    op: str
    call: Callable
    reference: Callable
    fit: Callable = lambda n: (n,)  # a shape of n elements
    promotes: bool = True  # whether the teacher's dtype has a part in the result's
    # Size of the numbers whose rounding enters each term of the loss as it is, where it is more than the term's own.
    steps: Callable = lambda s, t: 0.0
    terms: Callable = torch.numel
    gradient_steps: float = 0.0  # the same for the gradients, per unit of grad

    def promoted(self, student, teacher):
        return torch.promote_types(student.dtype, teacher.dtype) if self.promotes else student.dtype


def _hinge(s, t, reduction):
    return boundary_hinge_loss(s, t, reduction=reduction)


def _hinge_on_bits(s, t, reduction):
    return boundary_hinge_loss(s, pack_signs(t), reduction=reduction)


def _hinge_reference(s, t, reduction):
    return boundary_hinge.reference([s], [t], [1.0], 1.0, reduction)[0]


def _interpolated(s, t, reduction):
    return interpolated_l1(s, t, *mixing_of(s), reduction)


def _interpolated_reference(s, t, reduction):
    return interpolated.reference(s, t, *mixing_of(s), reduction)


def _kl(s, t, reduction):
    return kl_discrepancy(s, t, 2.0, reduction)


def _kl_reference(s, t, reduction):
    return kl.reference(s, t, 2.0, reduction)


def _log_probabilities(s, t):
    """Each row's log p and log q are rounded: the more classes, the larger they are."""
    return max(torch.log_softmax(x.double() / 2, 1).abs().nan_to_num(0, 0, 0).max().item() for x in (s, t))


LOSSES = {
    "hinge": Loss("boundary_hinge_loss", _hinge, _hinge_reference),
    "hinge_on_bits": Loss("boundary_hinge_loss", _hinge_on_bits, _hinge_reference, promotes=False),
    "l1": Loss("l1_discrepancy", l1_discrepancy, l1.reference),
    "interpolated_l1": Loss(
        "interpolated_l1",
        _interpolated,
        _interpolated_reference,
        lambda n: (6, n // 6) if n % 6 == 0 else (1, n) if n > 1000 else (n,),
        steps=lambda s, t: t.double().abs().nan_to_num(0, 0, 0).max().item(),
    ),
    "kl": Loss(
        "kl_discrepancy",
        _kl,
        _kl_reference,
        lambda n: (n // 6, 6) if n % 6 == 0 else (1, n),
        steps=_log_probabilities,
        terms=lambda s: s.numel() // s.shape[1],
        gradient_steps=1.0,  # q - p
    ),
}


def leaf(x):
    """The same tensor, strides and all, as a leaf that requires a gradient."""
    return x.detach().requires_grad_()


def assert_close(got, want, *dtypes, slack=0.0):
    """Equal up to the rounding into got's dtype and the given ones; ``slack`` is an absolute error allowed beside."""
    # A long float64 sum differs from the reference only by the order of its terms.
    eps = max(1e-13, *(2 * torch.finfo(dtype).eps for dtype in (*dtypes, got.dtype)))
    slack = slack + torch.finfo(got.dtype).smallest_normal * torch.finfo(got.dtype).eps  # one denormal step
    rounded = want.to(got.dtype).double()  # a sum beyond float16's range is infinite in both
    finite = rounded[rounded.isfinite()].abs()
    # In proportion to what is compared: mean gradients are small, and must not pass as anything small.
    atol = eps * min(1.0, finite.max().item() if finite.numel() else 1.0)
    torch.testing.assert_close(got.double(), rounded, rtol=eps, atol=atol + slack, equal_nan=True)


def assert_same(got, want):
    """Bit for bit. The reference adds in an order that follows strides, so there only close."""
    if under_test.backend == "reference":
        torch.testing.assert_close(got, want, equal_nan=True)
    else:
        torch.testing.assert_close(got, want, rtol=0, atol=0, equal_nan=True, check_stride=True)


def run(function, student, teacher, reduction, grad=None):
    """Loss and both gradients (None where there is none)."""
    student, teacher = leaf(student), leaf(teacher)
    loss = function(student, teacher, reduction)
    loss.backward(torch.ones_like(loss) if grad is None else grad)
    return loss.detach(), student.grad, teacher.grad


def errors_of_eager(reference, want, student, teacher, reduction, grad, dtype):
    """How far plain PyTorch in this dtype is from the wanted results: the largest difference in each."""
    grad = None if grad is None else grad.to(dtype)
    eager = run(reference, student.to(dtype), teacher.to(dtype), reduction, grad)
    return [
        0.0 if w is None or w.numel() == 0 else (e.double() - w).abs().nan_to_num(0, 0).max().item()
        for e, w in zip(eager, want, strict=True)
    ]


def check_against_reference(name, student, teacher, reduction, grad=None):
    """The op against the reference on the same numbers in float64, with at most twice the error of plain PyTorch."""
    loss = LOSSES[name]
    got = run(loss.call, student, teacher, reduction, grad)
    wide_grad = None if grad is None else grad.double()
    want = run(loss.reference, student.double(), teacher.double(), reduction, wide_grad)
    computed = torch.promote_types(loss.promoted(student, teacher), torch.float32)
    slack = errors_of_eager(loss.reference, want, student, teacher, reduction, grad, computed)
    if student.numel():
        summed = loss.terms(student) if reduction == "sum" else 1
        slack[0] += summed * torch.finfo(computed).eps * loss.steps(student, teacher)
        largest = 1.0 if grad is None else grad.abs().max().item()
        share = largest / loss.terms(student) if reduction == "mean" else largest
        slack[1:] = [s + share * torch.finfo(computed).eps * loss.gradient_steps for s in slack[1:]]

    dtypes = (loss.promoted(student, teacher), student.dtype, teacher.dtype)
    for ours, theirs, dtype, error in zip(got, want, dtypes, slack, strict=True):
        if theirs is None:
            assert ours is None
            continue
        assert ours.dtype == dtype
        assert_close(ours, theirs, computed, slack=2 * error)


def product_of(values, dtype):
    """Every pair of the values, as two tensors."""
    values = torch.tensor(values).to(dtype)
    return tuple(x.flatten() for x in torch.meshgrid(values, values, indexing="ij"))


EDGES = (
    0.0,
    -0.0,
    1.0,
    -1.0,
    1 + 2**-10,
    -1 - 2**-10,
    1e-30,
    -1e-30,
    1e-40,
    -1e-40,
    3e38,
    math.inf,
    -math.inf,
    math.nan,
)
