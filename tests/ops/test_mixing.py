"""mixup and virtual_batch."""

import pytest
import torch

from dfad_fast.ops import interpolated_l1, mixing, mixup, virtual_batch
from tests.under_test import sized

from .helpers import DTYPES, LAYOUTS, assert_close, compiled, leaf


def by_hand(x, lam, perm):
    """The formula sample by sample, in float64."""
    lam = torch.as_tensor(lam, dtype=torch.float64).expand(len(perm))
    wide = x.double()
    return torch.stack([lam[i] * wide[i] + (1 - lam[i]) * wide[perm[i]] for i in range(len(perm))])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("lam", ["number", "scalar tensor", "per sample", "per sample, strided"])
def test_values_and_gradients(dtype, lam):
    lam = {
        "number": 0.3,
        "scalar tensor": torch.tensor(0.3),
        "per sample": torch.rand(9),
        "per sample, strided": torch.rand(18, dtype=torch.float64)[::2],
    }[lam]
    x, perm = leaf(torch.randn(9, 3, 5).to(dtype)), torch.randperm(9)
    mixed = mixup(x, lam, perm)
    assert mixed.dtype == dtype
    assert_close(mixed.detach(), by_hand(x.detach(), lam, perm), torch.float32)

    grad = torch.randn(9, 3, 5).to(dtype)
    mixed.backward(grad)
    wide = leaf(x.detach().double())
    by_hand(wide, lam, perm).backward(grad.double())
    assert x.grad.dtype == dtype
    assert_close(x.grad, wide.grad, torch.float32)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_layouts(layout, dtype):
    x = leaf(layout(torch.randn(6, 4, 5, 7).to(dtype)))
    lam, perm = torch.rand(6), torch.randperm(6)
    mixed = mixup(x, lam, perm)
    assert_close(mixed.detach(), by_hand(x.detach(), lam, perm), torch.float32)
    grad = layout(torch.randn(6, 4, 5, 7).to(dtype))
    mixed.backward(grad)
    wide = leaf(x.detach().double())
    by_hand(wide, lam, perm).backward(grad.double())
    assert_close(x.grad, wide.grad, torch.float32)


@compiled
@pytest.mark.parametrize("layout", LAYOUTS)
def test_strides_are_kept(layout):
    x = leaf(layout(torch.randn(6, 4, 5, 7)))
    mixed = mixup(x, 0.3, torch.randperm(6))
    assert mixed.stride() == torch.empty_like(x).stride()
    mixed.sum().backward()
    assert x.grad.stride() == torch.empty_like(x).stride()


SHAPES = sized(((2, 16384), (3, 16385), (1, 70001), (300, 257)), ((2, 4096), (3, 4097), (1, 5001), (40, 57)))


@pytest.mark.parametrize("shape", [(1,), (7,), (5, 1), (0, 4), (4, 0), *SHAPES])
def test_sizes(shape):
    x, perm = leaf(torch.randn(shape)), torch.randperm(shape[0])
    lam = torch.rand(shape[0])
    mixed = mixup(x, lam, perm)
    assert mixed.shape == shape
    grad = torch.randn(shape)
    (x_grad,) = torch.autograd.grad(mixed, x, grad)
    assert x_grad.shape == shape
    if x.numel():
        assert_close(mixed.detach(), by_hand(x.detach(), lam, perm), slack=1e-6)
        wide = leaf(x.detach().double())
        assert_close(
            x_grad, torch.autograd.grad(by_hand(wide, lam, perm), wide, grad.double())[0], slack=1e-6
        )


def test_strided_permutation():
    x, perm = torch.randn(6, 2), torch.stack([torch.randperm(6), torch.randperm(6)], 1)[:, 1]
    assert not perm.is_contiguous()
    x = leaf(x)
    mixed = mixup(x, 0.25, perm)
    assert_close(mixed.detach(), by_hand(x.detach(), 0.25, perm))
    mixed.sum().backward()
    torch.testing.assert_close(x.grad, torch.ones(6, 2))


@pytest.mark.parametrize("lam", [-0.5, 1.5, 1e-40])
def test_lam_may_be_any_number(lam):
    x, perm = torch.randn(5, 3, dtype=torch.float64), torch.randperm(5)
    torch.testing.assert_close(mixup(x, lam, perm), by_hand(x, lam, perm), rtol=1e-14, atol=1e-14)


def test_edge_values_stay_in_their_places():
    x = torch.tensor([[1.0, float("nan")], [float("inf"), 2.0], [3.0, 4.0]])
    mixed = mixup(x, 0.5, torch.tensor([2, 0, 1]))
    assert mixed.isnan().tolist() == [[False, True], [False, True], [False, False]]
    assert mixed.isinf().tolist() == [[False, False], [True, False], [True, False]]


def test_the_gradient_is_the_mixture_by_the_inverse():
    """A cycle of three by hand: sample 0 is partner of sample 2, 1 of 0, 2 of 1."""
    x, perm = leaf(torch.zeros(3, 1)), torch.tensor([1, 2, 0])
    mixup(x, torch.tensor([0.5, 0.25, 0.0]), perm).backward(torch.tensor([[1.0], [10.0], [100.0]]))
    assert x.grad.flatten().tolist() == [0.5 + 100, 2.5 + 0.5, 0 + 7.5]


def test_grads_that_are_expanded():
    x, perm = leaf(torch.randn(6, 4)), torch.randperm(6)
    lam = torch.rand(6)
    mixed = mixup(x, lam, perm)
    for grad in (torch.ones(()).expand(6, 4), torch.randn(4).expand(6, 4), torch.randn(6, 1).expand(6, 4)):
        (got,) = torch.autograd.grad(mixed, x, grad, retain_graph=True)
        (want,) = torch.autograd.grad(mixed, x, grad.contiguous(), retain_graph=True)
        assert torch.equal(got, want)


@pytest.mark.backends("cuda-shim")
@pytest.mark.parametrize("batch", [3, 1025])  # on CUDA, each block finds the sources of few rows by itself
def test_of_the_rows_with_one_partner_the_last_counts_on_a_gpu(batch):
    x, t, perm = (
        leaf(torch.zeros(batch, 2)),
        leaf(torch.zeros(batch, 2)),
        torch.zeros(batch, dtype=torch.int64),
    )
    grad = torch.arange(batch, dtype=torch.float32)[:, None].expand(batch, 2)
    mixup(x, 0.25, perm).backward(grad)
    interpolated_l1(torch.ones(batch, 2), t, 0.25, perm, "none").backward(grad)
    for gradient in (x.grad, -t.grad):
        assert gradient[0].tolist() == [0.75 * (batch - 1)] * 2
        assert gradient[1:].isnan().all()


def test_lam_of_one_and_zero_are_exact():
    x, perm = torch.randn(8, 3), torch.randperm(8)
    assert torch.equal(mixup(x, 1.0, perm), x)
    assert torch.equal(mixup(x, 0.0, perm), x[perm])


def test_virtual_batch_is_two_mixtures():
    x, y = torch.randn(8, 3, 4, 4), torch.randn(8, 10).bfloat16()
    lam, perm = torch.rand(8), torch.randperm(8)
    mixed_x, mixed_y = virtual_batch(x, y, lam, perm)
    assert torch.equal(mixed_x, mixup(x, lam, perm))
    assert torch.equal(mixed_y, mixup(y, lam, perm))
    assert mixed_y.dtype == torch.bfloat16


def test_virtual_batch_tracks_only_what_requires_a_gradient():
    x, y = leaf(torch.randn(8, 3)), torch.randn(8, 10)
    perm = torch.randperm(8)
    mixed_x, mixed_y = virtual_batch(x, y, 0.3, perm)
    assert mixed_x.requires_grad
    assert not mixed_y.requires_grad
    x, y = leaf(torch.randn(8, 3)), leaf(torch.randn(8, 10))
    mixed_x, mixed_y = virtual_batch(x, y, 0.3, perm)
    mixed_y.sum().backward()
    torch.testing.assert_close(y.grad, torch.ones(8, 10))
    assert x.grad is None or not x.grad.any()


def test_gradcheck():
    x = leaf(torch.randn(5, 3, dtype=torch.float64))
    lam, perm = torch.rand(5, dtype=torch.float64), torch.randperm(5)
    assert torch.autograd.gradcheck(lambda x: mixup(x, lam, perm), (x,))


def test_the_dtype_is_kept_under_autocast():
    x, perm = torch.randn(4, 3), torch.randperm(4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert mixup(x, 0.3, perm).dtype == torch.float32
        assert mixup(x.bfloat16(), 0.3, perm).dtype == torch.bfloat16


def test_the_reference_agrees():
    x, perm, lam = torch.randn(6, 3), torch.randperm(6), torch.rand(6)
    (want,) = mixing.reference([x], lam, perm)
    assert_close(mixup(x, lam, perm), want)
