"""boundary_hinge_loss over lists of stages."""

import pytest
import torch

from dfad_fast.ops import boundary_hinge, boundary_hinge_loss
from tests.under_test import sized

from .helpers import assert_close, channels_last, leaf

SHAPES = [(4, 3, 9, 9), (2, 8, 64, 65), (4, 7), (1,)]


def stages(dtypes=(torch.float32,) * 4):
    student = [torch.randn(shape).to(dtype) for shape, dtype in zip(SHAPES, dtypes, strict=True)]
    return [leaf(s) for s in student], [torch.randn(shape) for shape in SHAPES]


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("weights", [None, [1.0, 0.5, 0.0, -2.0]])
def test_sum_over_stages_against_the_reference(reduction, weights):
    student, teacher = stages((torch.float32, torch.bfloat16, torch.float16, torch.float32))
    loss = boundary_hinge_loss(student, teacher, 0.7, reduction, weights)
    loss.backward()
    wide = [leaf(s.detach().double()) for s in student]
    want, _ = boundary_hinge.reference(
        wide, [t.double() for t in teacher], weights or [1.0] * 4, 0.7, reduction
    )
    want.backward()
    assert loss.dtype == torch.float32
    assert_close(loss.detach(), want.detach())
    for s, w in zip(student, wide, strict=True):
        assert s.grad.dtype == s.dtype
        assert_close(s.grad, w.grad)


def test_one_stage_is_the_plain_loss():
    s, t = torch.randn(5, 7), torch.randn(5, 7)
    assert torch.equal(boundary_hinge_loss([s], [t]), boundary_hinge_loss(s, t))


def test_layouts_may_differ_among_stages():
    s, t = torch.randn(2, 3, 5, 5), torch.randn(2, 3, 5, 5)
    students, teachers = [channels_last(s), s], [channels_last(t), channels_last(t)]
    torch.testing.assert_close(boundary_hinge_loss(students, teachers), 2 * boundary_hinge_loss(s, t))


def test_only_stages_that_require_a_gradient_get_one():
    student, teacher = stages()
    student[1] = student[1].detach()
    boundary_hinge_loss(student, teacher, weights=[1, 2, 3, 4]).backward()
    assert student[1].grad is None
    alone = leaf(student[2].detach())
    (3 * boundary_hinge_loss(alone, teacher[2])).backward()
    torch.testing.assert_close(student[2].grad, alone.grad)


def test_one_stages_gradient_can_be_asked_for_alone():
    student, teacher = stages()
    everything = torch.autograd.grad(boundary_hinge_loss(student, teacher), student)
    (only,) = torch.autograd.grad(boundary_hinge_loss(student, teacher), student[2])
    assert torch.equal(only, everything[2])


def test_the_same_tensor_in_two_stages_gets_the_sum():
    s, t, u = leaf(torch.randn(50)), torch.randn(50), torch.randn(50)
    boundary_hinge_loss([s, s], [t, u], weights=[1, 2]).backward()
    parts = [torch.autograd.grad(boundary_hinge_loss(s, x), s)[0] for x in (t, u)]
    torch.testing.assert_close(s.grad, parts[0] + 2 * parts[1])


def test_many_stages():
    """More than fit one launch's table of chunks, most of them tiny."""
    student = [leaf(torch.randn(i % 7 + 1)) for i in range(sized(300, 70))]
    teacher = [torch.randn(s.shape) for s in student]
    weights = torch.rand(len(student)).tolist()
    loss = boundary_hinge_loss(student, teacher, weights=weights)
    loss.backward()
    want, _ = boundary_hinge.reference([s.double() for s in student], [t.double() for t in teacher], weights)
    torch.testing.assert_close(loss.double(), want, rtol=1e-6, atol=0)
    for s, t, w in zip(student, teacher, weights, strict=True):
        (grad,) = torch.autograd.grad(w * boundary_hinge.reference([s], [t], [1.0])[0], s)
        assert_close(s.grad, grad)


def test_none_gives_a_list():
    student, teacher = stages()
    losses = boundary_hinge_loss(student, teacher, reduction="none")
    assert [loss.shape for loss in losses] == [s.shape for s in student]
    assert torch.equal(losses[2], boundary_hinge_loss(student[2], teacher[2], reduction="none"))


def test_an_empty_stage_sums_to_zero():
    s, t = torch.randn(5), torch.randn(5)
    empty = torch.empty(0)
    assert torch.equal(
        boundary_hinge_loss([empty, s], [empty, t], reduction="sum"),
        boundary_hinge_loss(s, t, reduction="sum"),
    )


def test_float64_stage_is_computed_in_float64():
    s, t = torch.randn(1000, dtype=torch.float64), torch.randn(1000)
    loss = boundary_hinge_loss([s, s.float()], [t, t])
    assert loss.dtype == torch.float64
    want = boundary_hinge_loss(s, t) + boundary_hinge_loss(s.float(), t).double()
    torch.testing.assert_close(loss, want, rtol=1e-7, atol=0)


def test_gradcheck():
    student = [leaf(torch.randn(3, 4, dtype=torch.float64)) for _ in range(2)]
    teacher = [torch.randn(3, 4) for _ in range(2)]
    assert torch.autograd.gradcheck(
        lambda *s: boundary_hinge_loss(list(s), teacher, weights=[0.5, 2]), tuple(student)
    )
