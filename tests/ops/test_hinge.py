"""boundary_hinge_loss where its formula turns: the boundary, the margin, and numbers that are none."""

import math
import weakref

import pytest
import torch
import torch.nn.functional as F

from dfad_fast.ops import boundary_hinge_loss

from .helpers import EDGES, compiled, leaf, product_of, run

INF, NAN = math.inf, math.nan


def hinge(margin=1.0):
    return lambda s, t, reduction: boundary_hinge_loss(s, t, margin, reduction)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("margin", [0.0, 1.0, 0.25, 1e-40])
def test_edge_values_are_those_of_eager(dtype, margin):
    def eager(s, t, reduction):
        return F.relu(margin + torch.where(t <= 0, s, -s)) ** 2

    s, t = product_of(EDGES, dtype)
    got, want = run(hinge(margin), s, t, "none"), run(eager, s, t, "none")
    for ours, theirs in zip(got[:2], want[:2], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_edge_values_of_halves_are_those_of_float32(dtype):
    s, t = product_of(EDGES, dtype)
    got, want = run(hinge(), s, t, "none"), run(hinge(), s.float(), t.float(), "none")
    for ours, theirs in zip(got[:2], want[:2], strict=True):
        torch.testing.assert_close(ours, theirs.to(dtype), rtol=0, atol=0, equal_nan=True)


def test_by_hand():
    #    off, inside   off, tie   off, beyond   on, inside   on, tie   on, beyond   t = 0: off   t = -0: off
    s = [0.5, -1.0, -2.0, 0.5, 1.0, 2.0, 0.5, 0.5]
    t = [-3.0, -3.0, -3.0, 3.0, 3.0, 3.0, 0.0, -0.0]
    loss, grad, _ = run(hinge(), torch.tensor(s), torch.tensor(t), "none")
    assert loss.tolist() == [2.25, 0, 0, 0.25, 0, 0, 2.25, 2.25]
    assert grad.tolist() == [3, 0, 0, -1, 0, 0, 3, 3]


def test_the_smallest_teachers_have_a_side():
    t = torch.tensor([1e-45, -1e-45])
    loss, grad, _ = run(hinge(), torch.tensor([0.5, 0.5]), t, "none")
    assert loss.tolist() == [0.25, 2.25]
    assert grad.tolist() == [-1, 3]


def test_nan():
    s, t = torch.tensor([NAN, NAN, 0.5]), torch.tensor([-1.0, 1.0, NAN])
    loss, grad, _ = run(hinge(), s, t, "none")
    assert loss[:2].isnan().all()
    assert grad[:2].isnan().all()
    assert loss[2] == 0.25
    assert grad[2] == -1, "a teacher's NaN counts as on"


def test_infinite_student():
    s, t = torch.tensor([INF, INF, -INF, -INF]), torch.tensor([-1.0, 1.0, -1.0, 1.0])
    loss, grad, _ = run(hinge(), s, t, "none")
    assert loss.tolist() == [INF, 0, 0, INF]
    assert grad.tolist() == [INF, 0, 0, -INF]


def test_an_infinite_grad_is_dropped_beyond_the_margin_as_in_eager():
    def eager(s, t, reduction):
        return F.relu(1.0 + torch.where(t <= 0, s, -s)).square()

    s, t = torch.tensor([2.0, 1.0, 0.5, -2.0]), torch.tensor([1.0, 1.0, 1.0, 1.0])
    for value in (INF, -INF, NAN):
        grad = torch.full((4,), value)
        got, want = (run(f, s, t, "none", grad)[1] for f in (hinge(), eager))
        torch.testing.assert_close(got, want, rtol=0, atol=0, equal_nan=True)


def test_reads_only_the_teachers_sign_and_gives_it_no_gradient():
    s, t = leaf(torch.randn(99)), leaf(torch.randn(99))
    loss = boundary_hinge_loss(s, t)
    assert torch.equal(loss, boundary_hinge_loss(s, 1e-3 * t))
    loss.backward()
    assert t.grad is None
    assert not boundary_hinge_loss(s.detach(), t).requires_grad


@compiled
def test_the_teacher_may_be_changed_before_backward():
    """Only its bits were saved. (The reference saves what eager PyTorch saves.)"""
    s, t = leaf(torch.randn(50)), torch.randn(50)
    loss = boundary_hinge_loss(s, t)
    (want,) = torch.autograd.grad(loss, s, retain_graph=True)
    t.neg_()
    (got,) = torch.autograd.grad(loss, s)
    assert torch.equal(got, want)


def test_the_teachers_graph_is_not_kept_for_its_signs():
    class Held:
        pass

    class Holds(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.held = held[0]
            return x * 1

        @staticmethod
        def backward(ctx, grad):
            return grad

    held = [Held()]
    alive = weakref.ref(held[0])
    student, source = torch.randn(4, 3, requires_grad=True), torch.randn(4, 3, requires_grad=True)
    teacher = Holds.apply(source)
    loss = boundary_hinge_loss([student], [teacher]) + boundary_hinge_loss(student, teacher)
    held.clear()
    assert alive() is not None
    del teacher
    assert alive() is None
    loss.backward()
    assert source.grad is None


def test_zero_dim():
    s, t = torch.tensor(0.3), torch.tensor(-0.2)
    for reduction in ("mean", "none"):
        loss, grad, _ = run(hinge(), s, t, reduction)
        assert loss.item() == pytest.approx(1.69)
        assert grad.item() == pytest.approx(2.6)
