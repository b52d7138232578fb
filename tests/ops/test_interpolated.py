"""interpolated_l1 is l1_discrepancy to labels that are built by hand."""

import pytest
import torch
import torch.nn.functional as F

from dfad_fast.ops import interpolated, interpolated_l1, l1_discrepancy, mixup

from .helpers import REDUCTIONS, assert_close, leaf, run

SHAPES = [(1, 1), (1, 7), (2, 3), (7, 10), (6, 4, 3, 5), (9,), (33, 129), (2, 5000)]


def labels(t, lam, perm):
    """The label tensor sample by sample."""
    lam = torch.as_tensor(lam, dtype=t.dtype).expand(len(perm))
    return torch.stack([lam[i] * t[i] + (1 - lam[i]) * t[perm[i]] for i in range(len(perm))])


def lams(batch):
    return {
        "number": 0.3,
        "zero": 0.0,
        "one": 1.0,
        "outside": 1.75,
        "scalar": torch.tensor(0.625),
        "per sample": torch.rand(batch, dtype=torch.float64),
        "per sample, half": torch.rand(batch).half(),
        "per sample, strided": torch.rand(2 * batch)[::2],
    }


def op(lam, perm):
    return lambda s, t, reduction: interpolated_l1(s, t, lam, perm, reduction)


def by_hand(lam, perm):
    return lambda s, t, reduction: F.l1_loss(s, labels(t, lam, perm), reduction=reduction)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("kind", lams(1))
def test_is_l1_to_built_labels(kind, reduction):
    mixing = lams(7)[kind], torch.randperm(7)
    s, t = torch.randn(7, 10, dtype=torch.float64), torch.randn(7, 10, dtype=torch.float64)
    want = run(by_hand(*mixing), s, t, reduction)
    got = run(op(*mixing), s, t, reduction)
    single = run(op(*mixing), s.float(), t.float(), reduction)
    for ours, narrow, theirs in zip(got, single, want, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(narrow.double(), theirs, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes(shape):
    lam, perm = torch.rand(shape[0], dtype=torch.float64), torch.randperm(shape[0])
    s, t = torch.randn(shape, dtype=torch.float64), torch.randn(shape, dtype=torch.float64)
    want, got = (run(form(lam, perm), s, t, "mean") for form in (by_hand, op))
    for ours, theirs in zip(got, want, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)


def test_the_reference_builds_the_labels():
    lam, perm = torch.rand(6, dtype=torch.float64), torch.randperm(6)
    s, t = torch.randn(6, 4, dtype=torch.float64), torch.randn(6, 4, dtype=torch.float64)
    want = F.l1_loss(s, labels(t, lam, perm))
    torch.testing.assert_close(interpolated.reference(s, t, lam, perm), want)


def test_the_label_is_not_rounded_to_the_teachers_dtype():
    s, t, perm = torch.randn(64, 10), torch.randn(64, 10).bfloat16(), torch.randperm(64)
    assert_close(interpolated_l1(s, t, 0.25, perm), F.l1_loss(s, labels(t.float(), 0.25, perm)))
    rounded = l1_discrepancy(s, mixup(t, 0.25, perm))
    assert (interpolated_l1(s, t, 0.25, perm) - rounded).abs() > 1e-6


def test_the_teacher_gets_both_of_its_gradients():
    """A cycle of three: each sample is a label's own part once and its partner once."""
    s, t, perm = torch.full((3, 1), 10.0), leaf(torch.zeros(3, 1)), torch.tensor([1, 2, 0])
    grad = torch.tensor([[1.0], [10.0], [100.0]])
    lam = torch.tensor([0.5, 0.25, 0.0])
    interpolated_l1(s, t, lam, perm, "none").backward(grad)
    # t_1 is partner of sample 0, t_2 of sample 1, t_0 of sample 2.
    assert t.grad.flatten().tolist() == [-(0.5 + 100), -(2.5 + 0.5), -(0 + 7.5)]


def test_ties_give_no_gradient():
    t, perm = torch.randn(5, 3), torch.arange(5)
    _, student, teacher = run(op(0.5, perm), t.clone(), t, "sum")
    assert not student.any()
    assert not teacher.any()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_infinity_reach_their_samples_only(value):
    s, t, perm = torch.randn(4, 3), torch.randn(4, 3), torch.tensor([1, 2, 3, 0])
    t[2, 1] = value
    loss = interpolated_l1(s, t, 0.5, perm, "none")
    assert (~loss.isfinite()).nonzero().tolist() == [[1, 1], [2, 1]]
