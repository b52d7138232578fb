"""The share of neurons that student and teacher have on the same side, from the loss's own pass."""

import math

import pytest
import torch

from dfad_fast.ops import boundary_hinge_loss, boundary_hinge_loss_with_agreement, pack_signs

from .helpers import DTYPE_PAIRS, LAYOUTS, REDUCTIONS, SHAPE, leaf


def direct(s, t):
    """Counted in Python."""
    pairs = list(zip(s.flatten().tolist(), t.flatten().tolist(), strict=True))
    return sum((a <= 0) == (b <= 0) for a, b in pairs) / len(pairs)


@pytest.mark.parametrize(("student", "teacher"), DTYPE_PAIRS)
def test_is_the_share_of_equal_signs(student, teacher):
    for size in (1, 7, 100, 513):
        s, t = torch.randn(size).to(student), torch.randn(size).to(teacher)
        for teacher_form in (t, pack_signs(t)):
            _, agreement = boundary_hinge_loss_with_agreement(s, teacher_form)
            assert agreement.dtype == torch.float32
            assert agreement.shape == ()
            assert agreement.item() == pytest.approx(direct(s, t), abs=1e-7)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout):
    s, t = layout(torch.randn(SHAPE)), torch.randn(SHAPE)
    for a, b in ((s, t), (t, s)):
        assert boundary_hinge_loss_with_agreement(a, b)[1].item() == pytest.approx(direct(a, b), abs=1e-7)


def test_edges_have_the_sides_of_the_bits():
    s = torch.tensor([0.0, -0.0, math.nan, math.inf, -math.inf])
    t = torch.tensor([-1.0, 0.0, 1.0, math.nan, -0.0])
    assert boundary_hinge_loss_with_agreement(s, t)[1] == 1
    assert boundary_hinge_loss_with_agreement(s, torch.tensor([1.0, 1.0, -1.0, 0.0, math.nan]))[1] == 0


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_the_loss_is_the_plain_one(reduction):
    s, t = leaf(torch.randn(1000)), torch.randn(1000)
    loss, agreement = boundary_hinge_loss_with_agreement(s, t, 0.5, reduction)
    plain = boundary_hinge_loss(s, t, 0.5, reduction)
    assert torch.equal(loss, plain)
    assert not agreement.requires_grad
    assert torch.equal(*(torch.autograd.grad(x.sum(), s)[0] for x in (loss, plain)))


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_one_share_per_stage(reduction):
    s = [torch.randn(4, 3, 9, 9), torch.empty(0), torch.randn(70000), torch.randn(1)]
    t = [torch.randn(x.shape) for x in s]
    loss, agreement = boundary_hinge_loss_with_agreement(s, t, reduction=reduction)
    plain = boundary_hinge_loss(s, t, reduction=reduction)
    if reduction == "none":
        assert all(torch.equal(a, b) for a, b in zip(loss, plain, strict=True))
    else:
        torch.testing.assert_close(loss, plain, rtol=0, atol=0, equal_nan=True)
    want = torch.tensor([direct(a, b) if a.numel() else math.nan for a, b in zip(s, t, strict=True)])
    torch.testing.assert_close(agreement, want, equal_nan=True)


def test_more_stages_of_mixed_dtypes_than_one_launch_takes():
    dtypes = [torch.float32, torch.float64, torch.bfloat16]
    s = [torch.randn(40 * k + 1).to(dtypes[k % 3]) for k in range(36)]
    t = [torch.randn(x.shape).to(dtypes[k // 3 % 3]) for k, x in enumerate(s)]
    agreement = boundary_hinge_loss_with_agreement(s, t)[1]
    torch.testing.assert_close(agreement, torch.tensor([direct(a, b) for a, b in zip(s, t, strict=True)]))


def test_an_empty_tensor_agrees_in_nothing():
    assert boundary_hinge_loss_with_agreement(torch.empty(0), torch.empty(0), reduction="sum")[1].isnan()
