"""l1_discrepancy is F.l1_loss, edge for edge."""

import math
import weakref

import pytest
import torch
import torch.nn.functional as F

from dfad_fast.ops import l1_discrepancy

from .helpers import DTYPES, EDGES, compiled, product_of, run


def eager(s, t, reduction):
    return F.l1_loss(s, t, reduction=reduction)


@pytest.mark.parametrize("dtype", DTYPES)
def test_edge_values_are_those_of_eager(dtype):
    s, t = product_of(EDGES, dtype)
    got, want = (run(f, s, t, "none") for f in (l1_discrepancy, eager))
    for ours, theirs in zip(got, want, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)


def test_an_infinite_grad_at_a_tie_is_nan_as_in_eager():
    tie = torch.ones(3)
    grad = torch.tensor([math.inf, math.nan, 1.0])
    got, want = (run(f, tie, tie, "none", grad)[1] for f in (l1_discrepancy, eager))
    torch.testing.assert_close(got, want, rtol=0, atol=0, equal_nan=True)
    assert got[0].isnan()


def test_the_sides_are_antisymmetric():
    s, t = torch.randn(9, 3), torch.randn(9, 3)
    _, student, teacher = run(l1_discrepancy, s, t, "sum")
    assert torch.equal(student, torch.sign(s - t))
    assert torch.equal(teacher, -student)


@compiled
def test_backward_needs_two_bits_of_each_element_and_neither_side():
    s, t = torch.randn(100, 10, requires_grad=True), torch.randn(100, 10)
    slope = torch.sign(s.detach() - t)
    loss = l1_discrepancy(s, t, "sum")
    teacher = weakref.ref(t)
    with torch.no_grad():
        s.add_(9.0)
    del t
    assert teacher() is None
    loss.backward()
    assert torch.equal(s.grad, slope)


@compiled
@pytest.mark.parametrize("wanted", ["student", "teacher"])
def test_one_side_alone_has_its_own_dtype(wanted):
    s, t = torch.randn(9, 3, dtype=torch.bfloat16), torch.randn(9, 3, dtype=torch.float64)
    side = s if wanted == "student" else t
    side.requires_grad_()
    l1_discrepancy(s, t, "sum").backward()
    slope = torch.sign(s.detach().double() - t.detach())
    assert side.grad.dtype == side.dtype
    assert torch.equal(side.grad, (slope if wanted == "student" else -slope).to(side.dtype))


@pytest.mark.parametrize("reduction", ["sum", "none"])
@pytest.mark.parametrize("wanted", ["student", "teacher"])
def test_a_grad_too_large_for_float32_leaves_a_tie_alone(wanted, reduction):
    """The side that is float64 wants no gradient here, but its loss's gradient is float64."""
    narrow, wide = torch.tensor([1.0, 2.0], requires_grad=True), torch.ones(2, dtype=torch.float64)
    loss = l1_discrepancy(*((narrow, wide) if wanted == "student" else (wide, narrow)), reduction)
    loss.backward(torch.full_like(loss, 1e300))
    assert narrow.grad.tolist() == [0.0, math.inf]


def test_zero_dim():
    for reduction in ("mean", "sum", "none"):
        loss, student, teacher = run(l1_discrepancy, torch.tensor(0.5), torch.tensor(-0.25), reduction)
        assert (loss.item(), student.item(), teacher.item()) == (0.75, 1, -1)
