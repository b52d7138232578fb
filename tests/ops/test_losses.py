"""Both losses over pairs against their float64 reference: dtypes, layouts, sizes, gradients and edge values."""

import math
import weakref

import pytest
import torch
import torch.nn.functional as F

from dfad_fast.ops import boundary_hinge_loss, l1_discrepancy, mixup

from .helpers import (
    DTYPE_PAIRS,
    DTYPES,
    LAYOUTS,
    LOSSES,
    REDUCTIONS,
    SHAPE,
    check_against_reference,
    leaf,
    run,
)

NAMES = pytest.mark.parametrize("name", LOSSES)
BLOCK = 16384
INF, NAN = math.inf, math.nan


@NAMES
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(("student", "teacher"), DTYPE_PAIRS)
def test_dtypes(name, reduction, student, teacher):
    check_against_reference(name, torch.randn(7, 13).to(student), torch.randn(7, 13).to(teacher), reduction)


@NAMES
@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("student", LAYOUTS)
@pytest.mark.parametrize("teacher", LAYOUTS)
def test_layouts(name, reduction, dtype, student, teacher):
    s, t = (layout(torch.randn(SHAPE).to(dtype)) for layout in (student, teacher))
    check_against_reference(name, s, t, reduction)


@NAMES
@pytest.mark.parametrize("layout", LAYOUTS)
def test_strides_of_results_follow_the_student(name, layout):
    s = layout(torch.randn(SHAPE))
    loss, grad, _ = run(LOSSES[name][0], s, torch.randn(SHAPE), "none")
    assert loss.stride() == grad.stride() == torch.empty_like(s).stride()


@NAMES
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "size", [1, 2, 31, 32, 33, 511, 512, 513, BLOCK - 1, BLOCK, BLOCK + 1, 4 * BLOCK, 4 * BLOCK + 3]
)
def test_sizes(name, dtype, size):
    for reduction in ("sum", "none"):
        s, t = torch.rand(size).to(dtype), torch.rand(size).to(dtype) - 0.5
        check_against_reference(name, s, t, reduction)


@NAMES
def test_large_strided(name):
    """More than one block and thread through the path for strided tensors."""
    s, t = torch.randn(257, 613).t(), torch.randn(613, 300)[:, :257]
    check_against_reference(name, s, t, "mean")
    check_against_reference(name, s.bfloat16(), t, "none")


@NAMES
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_every_alignment(name, dtype):
    s, t = torch.randn(640).to(dtype), torch.randn(640).to(dtype)
    for i in range(41):
        check_against_reference(name, s[i:590], t[40 - i : 630 - 2 * i], "none")


@NAMES
@pytest.mark.parametrize("shape", [(0,), (2, 0, 3)])
def test_empty(name, shape):
    for reduction in REDUCTIONS:
        loss, student_grad, _ = run(LOSSES[name][0], torch.randn(shape), torch.randn(shape), reduction)
        eager = F.l1_loss(torch.randn(shape), torch.randn(shape), reduction=reduction)
        torch.testing.assert_close(loss, eager, equal_nan=True)
        assert student_grad.shape == shape


@NAMES
def test_zero_dim(name):
    check_against_reference(name, torch.tensor(0.3), torch.tensor(-0.2), "mean")
    check_against_reference(name, torch.tensor(0.3), torch.tensor(-0.2), "none")


@NAMES
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_grad_output_layouts(name, dtype):
    s, t = torch.randn(SHAPE).to(dtype), torch.randn(SHAPE).to(dtype)
    for layout in LAYOUTS:
        check_against_reference(name, s, t, "none", layout(torch.randn(SHAPE).to(dtype)))
    check_against_reference(name, s, t, "none", torch.tensor(0.7, dtype=dtype).expand(SHAPE))
    check_against_reference(name, s, t, "mean", torch.tensor(-3.0, dtype=dtype))
    check_against_reference(name, s, t, "sum", torch.tensor([0.5, 2.0], dtype=dtype)[1])


@NAMES
def test_retain_graph_and_no_grad(name):
    function = LOSSES[name][0]
    s, t = leaf(torch.randn(50)), torch.randn(50)
    loss = function(s, t)
    loss.backward(retain_graph=True)
    once = s.grad.clone()
    loss.backward()
    assert torch.equal(s.grad, 2 * once)
    with torch.no_grad():
        assert not function(s, t).requires_grad
    assert not function(s.detach(), t).requires_grad


@NAMES
def test_inputs_are_not_changed_and_their_change_is_noticed(name):
    function = LOSSES[name][0]
    s, t = leaf(torch.randn(50)), torch.randn(50)
    before = s.detach().clone(), t.clone()
    loss = function(s, t)
    loss.backward(retain_graph=True)
    assert torch.equal(s, before[0])
    assert torch.equal(t, before[1])
    t.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@NAMES
def test_gradcheck(name):
    s = leaf(torch.randn(4, 5, dtype=torch.float64))
    t = torch.randn(4, 5, dtype=torch.float64)
    for reduction in REDUCTIONS:
        assert torch.autograd.gradcheck(lambda x, r=reduction: LOSSES[name][0](x, t, reduction=r), (s,))


def test_l1_gradcheck_both_sides():
    s, t = (leaf(torch.randn(4, 5, dtype=torch.float64)) for _ in range(2))
    assert torch.autograd.gradcheck(l1_discrepancy, (s, t))


def test_l1_gives_only_the_gradients_asked_for():
    for student, teacher in ((True, False), (False, True), (True, True)):
        s, t = torch.randn(9).requires_grad_(student), torch.randn(9).requires_grad_(teacher)
        l1_discrepancy(s, t, "sum").backward()
        want = torch.sign(s - t).detach()
        assert (s.grad is not None) == student
        assert (t.grad is not None) == teacher
        if student:
            assert torch.equal(s.grad, want)
        if teacher:
            assert torch.equal(t.grad, -want)
    s, t = leaf(torch.randn(9)), leaf(torch.randn(9))
    (only,) = torch.autograd.grad(l1_discrepancy(s, t, "sum"), t)
    assert torch.equal(only, -torch.sign(s - t).detach())


EDGES = (0.0, -0.0, 1.0, -1.0, 1.0 + 2**-10, -1.0 - 2**-10, 1e-30, -1e-30, 3e38, INF, -INF, NAN)


@pytest.mark.parametrize("dtype", DTYPES)
def test_l1_edge_values_are_those_of_eager(dtype):
    s, t = (x.flatten() for x in torch.meshgrid(*[torch.tensor(EDGES).to(dtype)] * 2, indexing="ij"))
    got, want = (run(f, s, t, "none") for f in (l1_discrepancy, F.l1_loss))
    for ours, eager in zip(got, want, strict=True):
        torch.testing.assert_close(ours, eager, rtol=0, atol=0, equal_nan=True)


def test_l1_infinite_grad_at_a_tie_is_nan_as_in_eager():
    tie = torch.ones(3)
    grad = torch.tensor([INF, NAN, 1.0])
    got, want = (run(f, tie, tie, "none", grad)[1] for f in (l1_discrepancy, F.l1_loss))
    torch.testing.assert_close(got, want, rtol=0, atol=0, equal_nan=True)
    assert got[0].isnan()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("margin", [0.0, 1.0, 0.25])
def test_hinge_edge_values_are_those_of_eager(dtype, margin):
    def eager(s, t, reduction):
        return F.relu(margin + torch.where(t <= 0, s, -s)) ** 2

    s, t = (x.flatten() for x in torch.meshgrid(*[torch.tensor(EDGES).to(dtype)] * 2, indexing="ij"))
    loss, grad, _ = run(boundary_hinge_loss, s, t, "none", margin=margin)
    want_loss, want_grad, _ = run(eager, s, t, "none")
    torch.testing.assert_close(loss, want_loss, rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(grad, want_grad, rtol=0, atol=0, equal_nan=True)


def test_hinge_by_hand():
    #        off, inside   off, tie   off, beyond   on, inside   on, tie   on, beyond   t = 0: off   t = -0: off
    s = [0.5, -1.0, -2.0, 0.5, 1.0, 2.0, 0.5, 0.5]
    t = [-3.0, -3.0, -3.0, 3.0, 3.0, 3.0, 0.0, -0.0]
    loss, grad, _ = run(boundary_hinge_loss, torch.tensor(s), torch.tensor(t), "none")
    assert loss.tolist() == [2.25, 0, 0, 0.25, 0, 0, 2.25, 2.25]
    assert grad.tolist() == [3, 0, 0, -1, 0, 0, 3, 3]


def test_hinge_nan():
    s, t = torch.tensor([NAN, NAN, 0.5]), torch.tensor([-1.0, 1.0, NAN])
    loss, grad, _ = run(boundary_hinge_loss, s, t, "none")
    assert loss[:2].isnan().all()
    assert grad[:2].isnan().all()
    assert loss[2] == 0.25
    assert grad[2] == -1, "a teacher's NaN counts as on"


def test_hinge_infinite_student():
    s, t = torch.tensor([INF, INF, -INF, -INF]), torch.tensor([-1.0, 1.0, -1.0, 1.0])
    loss, grad, _ = run(boundary_hinge_loss, s, t, "none")
    assert loss.tolist() == [INF, 0, 0, INF]
    assert grad.tolist() == [INF, 0, 0, -INF]


def test_hinge_reads_only_the_teachers_sign_and_gives_it_no_gradient():
    s, t = leaf(torch.randn(99)), leaf(torch.randn(99))
    loss = boundary_hinge_loss(s, t)
    assert torch.equal(loss, boundary_hinge_loss(s, 1e-3 * t))
    loss.backward()
    assert t.grad is None
    assert not boundary_hinge_loss(s.detach(), t).requires_grad


@NAMES
def test_half_sums_do_not_overflow_on_the_way(name):
    """The sum is over 65504, float16's largest; the mean is not."""
    s, t = torch.full((4096,), 30.0).half(), torch.full((4096,), -30.0).half()
    assert LOSSES[name][0](s, t, reduction="mean").isfinite()
    assert LOSSES[name][0](s, t, reduction="sum").isinf()


@NAMES
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_autocast_gives_what_l1_loss_gives(name, dtype, reduction):
    s, t = leaf(torch.randn(40, 3).to(dtype)), torch.randn(40, 3).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = LOSSES[name][0](s, t, reduction=reduction)
        assert loss.dtype == F.l1_loss(s, t, reduction=reduction).dtype
    loss.sum().backward()
    assert s.grad.dtype == dtype
    want = LOSSES[name][1](s.detach().double(), t.double(), reduction=reduction)
    torch.testing.assert_close(loss.detach().double(), want, rtol=1e-6, atol=1e-7)


@NAMES
def test_negative_bit_views(name):
    """x.imag of a conjugate is a lazily negated view."""
    s = torch.randn(50, dtype=torch.complex64).conj().imag
    assert s.is_neg()
    t = torch.randn(50)
    assert torch.equal(LOSSES[name][0](s, t), LOSSES[name][0](s.clone().resolve_neg(), t))


def test_a_teacher_from_inference_mode_is_taken_as_eager_takes_it():
    student = torch.randn(4, 3, requires_grad=True)
    values = torch.randn(4, 3)
    perm = torch.randperm(4)
    with torch.inference_mode():
        teacher, lam = values * 1, torch.full((4,), 0.3) * 1
    loss = (
        l1_discrepancy(student, teacher)
        + boundary_hinge_loss(student, teacher)
        + boundary_hinge_loss([student], [teacher])
        + mixup(student, lam, perm).sum()
    )
    (got,) = torch.autograd.grad(loss, student)
    usual = (
        l1_discrepancy(student, values)
        + 2 * boundary_hinge_loss(student, values)
        + mixup(student, torch.full((4,), 0.3), perm).sum()
    )
    (want,) = torch.autograd.grad(usual, student)
    torch.testing.assert_close(got, want)


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
