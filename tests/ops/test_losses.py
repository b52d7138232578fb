"""Every loss over pairs against its float64 reference: dtypes, layouts, sizes, gradients."""

import itertools

import pytest
import torch
import torch.nn.functional as F

from tests.under_test import emulated, sized

from .helpers import (
    DTYPE_PAIRS,
    DTYPES,
    LAYOUTS,
    LOSSES,
    REDUCTIONS,
    SHAPE,
    check_against_reference,
    compiled,
    contiguous,
    leaf,
    run,
)

NAMES = pytest.mark.parametrize("name", LOSSES)
BLOCK = 16384


def pair(shape, student=torch.float32, teacher=None):
    return torch.randn(shape).to(student), torch.randn(shape).to(teacher or student)


@NAMES
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(("student", "teacher"), DTYPE_PAIRS)
def test_dtypes(name, reduction, student, teacher):
    check_against_reference(name, *pair((7, 43), student, teacher), reduction)


LAYOUT_PAIRS = tuple(itertools.product(LAYOUTS, LAYOUTS))
# Emulated, every pair is read once; what "none" writes follows the student's layout alone.
LAYOUT_CASES = [("mean", *pair) for pair in LAYOUT_PAIRS] + [
    ("none", s, t) for s, t in LAYOUT_PAIRS if t in (s, contiguous) or not emulated()
]


@NAMES
@pytest.mark.parametrize(("reduction", "student", "teacher"), LAYOUT_CASES)
def test_layouts(name, reduction, student, teacher):
    dtypes = sized(
        (torch.float32, torch.bfloat16), (torch.float32 if reduction == "mean" else torch.bfloat16,)
    )
    for dtype in dtypes:
        s, t = (layout(torch.randn(SHAPE).to(dtype)) for layout in (student, teacher))
        check_against_reference(name, s, t, reduction)


@compiled
@NAMES
@pytest.mark.parametrize("layout", LAYOUTS)
def test_strides_of_results(name, layout):
    s = layout(torch.randn(SHAPE))
    loss, grad, _ = run(LOSSES[name].call, s, torch.randn(SHAPE), "none")
    dense = torch.empty_like(s).stride()
    assert grad.stride() == dense
    if name == "kl":
        assert loss.is_contiguous()
    else:
        assert loss.stride() == dense


SMALL = (1, 2, 7, 8, 9, 31, 32, 33, 127, 511, 512, 513, 1021)
LARGE = sized(
    (4095, 4096, 4097, BLOCK - 1, BLOCK, BLOCK + 1, 65521, 65535, 65536, 65537), (4095, 4096, 4097, 65537)
)


@NAMES
@pytest.mark.parametrize("size", SMALL + LARGE)
def test_sizes(name, size):
    for dtype in DTYPES if size in SMALL else sized(DTYPES, (torch.bfloat16,)):
        for reduction in ("sum", "none") if size in SMALL else sized(("sum", "none"), ("sum",)):
            s, t = torch.rand(size).to(dtype), torch.rand(size).to(dtype) - 0.5
            shape = LOSSES[name].fit(size)
            check_against_reference(name, s.view(shape), t.view(shape), reduction)


@NAMES
def test_large_strided(name):
    """More than one block and thread through the path for strided tensors."""
    n, m = sized((257, 613), (37, 130))
    s, t = torch.randn(n, m).t(), torch.randn(m, n + 43)[:, :n]
    check_against_reference(name, s, t, "mean")
    check_against_reference(name, s.bfloat16(), t, "none")


@NAMES
@pytest.mark.parametrize("dims", [2, 3, 5, 7])
def test_ranks(name, dims):
    shape = (3, 2, 4, 1, 2, 3, 2)[:dims]
    check_against_reference(name, *pair(shape), "none")
    s, t = pair(shape)
    check_against_reference(name, s.transpose(0, -1).contiguous().transpose(0, -1), t, "mean")


@NAMES
@pytest.mark.parametrize("shape", [(0, 4), (2, 0, 3), (3, 2, 0)])
def test_empty(name, shape):
    for reduction in REDUCTIONS:
        loss, grad, _ = run(LOSSES[name].call, *pair(shape), reduction)
        want = run(LOSSES[name].reference, *pair(shape), reduction)[0]
        torch.testing.assert_close(loss, want, equal_nan=True)
        assert grad.shape == shape
    assert LOSSES[name].call(*pair((0, 4)), "mean").isnan()
    assert LOSSES[name].call(*pair((0, 4)), "sum") == 0


@NAMES
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_grad_output(name, dtype):
    s, t = pair(SHAPE, dtype)
    shape = LOSSES[name].call(s, t, "none").shape
    for layout in LAYOUTS:
        grad = layout(torch.randn(SHAPE).to(dtype))
        check_against_reference(name, s, t, "none", grad if len(shape) == 4 else grad[:, 0])
    check_against_reference(name, s, t, "none", torch.tensor(0.7, dtype=dtype).expand(shape))
    check_against_reference(name, s, t, "mean", torch.tensor(-3.0, dtype=dtype))
    check_against_reference(name, s, t, "sum", torch.tensor([0.5, 2.0], dtype=dtype)[1])


@NAMES
def test_retain_graph_and_no_grad(name):
    function = LOSSES[name].call
    s, t = leaf(torch.randn(10, 5)), torch.randn(10, 5)
    loss = function(s, t, "mean")
    loss.backward(retain_graph=True)
    once = s.grad.clone()
    loss.backward()
    assert torch.equal(s.grad, 2 * once)
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()
    with torch.no_grad():
        assert not function(s, t, "mean").requires_grad
    assert not function(s.detach(), t, "mean").requires_grad


@NAMES
def test_inputs_are_not_changed(name):
    s, t = leaf(torch.randn(10, 5)), torch.randn(10, 5)
    before = s.detach().clone(), t.clone()
    LOSSES[name].call(s, t, "mean").backward()
    assert torch.equal(s, before[0])
    assert torch.equal(t, before[1])


@compiled
@pytest.mark.parametrize("name", [name for name in LOSSES if name != "l1"])
def test_a_change_of_the_student_before_backward_is_noticed(name):
    s = leaf(torch.randn(10, 5))
    loss = LOSSES[name].call(s, torch.randn(10, 5), "mean")
    with torch.no_grad():
        s.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@NAMES
def test_gradcheck(name):
    s, t = (leaf(torch.randn(sized((4, 5), (2, 3)), dtype=torch.float64)) for _ in range(2))
    if name.startswith("hinge"):
        t = t.detach()
    for reduction in REDUCTIONS:
        assert torch.autograd.gradcheck(lambda s, t, r=reduction: LOSSES[name].call(s, t, r), (s, t))


@pytest.mark.parametrize("name", [n for n in LOSSES if not n.startswith("hinge")])
def test_only_the_gradients_asked_for(name):
    call = LOSSES[name].call
    _, *both = run(call, *pair((4, 5)), "sum")
    torch.manual_seed(0)
    s, t = pair((4, 5))
    for student, teacher in ((True, False), (False, True), (True, True)):
        a, b = s.clone().requires_grad_(student), t.clone().requires_grad_(teacher)
        call(a, b, "sum").backward()
        for x, wanted, want in zip((a, b), (student, teacher), both, strict=True):
            assert (x.grad is not None) == wanted
            if wanted:
                assert torch.equal(x.grad, want)
        if student and teacher:
            (only,) = torch.autograd.grad(call(a, b, "sum"), b)
            assert torch.equal(only, both[1])


@NAMES
def test_half_sums_do_not_overflow_on_the_way(name):
    """The sum is over 65504, float16's largest; the mean is not."""
    s, t = torch.full((4096, 2), 30.0).half(), torch.full((4096, 2), -30.0).half()
    s[:, 0], t[:, 0] = -30, 30
    assert LOSSES[name].call(s, t, "mean").isfinite()
    assert LOSSES[name].call(s, t, "sum").isinf()


@NAMES
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_autocast_gives_what_l1_loss_gives(name, dtype, reduction):
    s, t = leaf(torch.randn(40, 3).to(dtype)), torch.randn(40, 3).bfloat16()
    with torch.autocast(s.device.type, dtype=torch.bfloat16):
        loss = LOSSES[name].call(s, t, reduction)
        assert loss.dtype == F.l1_loss(s, t, reduction=reduction).dtype
    loss.sum().backward()
    assert s.grad.dtype == dtype
    want = LOSSES[name].reference(s.detach().double(), t.double(), reduction)
    torch.testing.assert_close(loss.detach().double(), want, rtol=2e-6, atol=1e-6)


@NAMES
def test_negative_bit_views(name):
    """x.imag of a conjugate is a lazily negated view."""
    s = torch.randn(10, 5, dtype=torch.complex64).conj().imag
    assert s.is_neg()
    t = torch.randn(10, 5)
    assert torch.equal(LOSSES[name].call(s, t, "sum"), LOSSES[name].call(s.clone().resolve_neg(), t, "sum"))


@NAMES
def test_a_teacher_from_inference_mode(name):
    s, values = leaf(torch.randn(4, 3)), torch.randn(4, 3)
    with torch.inference_mode():
        teacher = values * 1
    (got,) = torch.autograd.grad(LOSSES[name].call(s, teacher, "sum"), s)
    (want,) = torch.autograd.grad(LOSSES[name].call(s, values, "sum"), s)
    assert torch.equal(got, want)


@NAMES
def test_all_under_inference_mode(name):
    s, t = pair((4, 3))
    want = LOSSES[name].call(s, t, "none")
    with torch.inference_mode():
        assert torch.equal(LOSSES[name].call(s * 1, t * 1, "none"), want)
