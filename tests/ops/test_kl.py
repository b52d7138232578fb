"""kl_discrepancy: the formula, and logits that a naive softmax cannot take."""

import math

import pytest
import torch
import torch.nn.functional as F

from dfad_fast.ops import kl, kl_discrepancy

from .helpers import DTYPES, REDUCTIONS, assert_close, compiled, leaf, run

INF, NAN = math.inf, math.nan
SHAPES = [(4, 10), (3, 1), (1, 1000), (2, 7, 5), (2, 3, 4, 5), (5, 2), (70, 3), (2, 1025)]
# Where rows of the CUDA kernels begin to be shared or kept otherwise.
SHAPES += [(3, 16), (3, 17), (2, 128), (2, 129), (1, 512), (1, 513), (2, 16, 3), (2, 17, 3)]


def by_hand(s, t, temperature, reduction):
    """torch's own kl_div, in float64; its 'batchmean' would divide by the batch only."""
    log_q, log_p = (F.log_softmax(x.double() / temperature, 1) for x in (s, t))
    rows = F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(1)
    return {"mean": rows.mean, "sum": rows.sum, "none": lambda: rows}[reduction]()


def op(temperature=1.0):
    return lambda s, t, reduction: kl_discrepancy(s, t, temperature, reduction)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("temperature", [1.0, 4.0, 0.25])
def test_is_torchs_kl_div(shape, temperature):
    for reduction in REDUCTIONS:
        s, t = 3 * torch.randn(shape), 3 * torch.randn(shape)
        want = run(lambda s, t, r: by_hand(s, t, temperature, r), s.double(), t.double(), reduction)
        exact = run(op(temperature), s.double(), t.double(), reduction)
        for ours, theirs in zip(exact, want, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
        single = run(op(temperature), s, t, reduction)
        for ours, theirs in zip(single, want, strict=True):
            # Twice what float32 costs plain PyTorch here: logits of 12 / 0.25 have an error of 4e-6 before exp.
            torch.testing.assert_close(ours.double(), theirs, rtol=1e-5, atol=2e-5 / min(1, temperature))


def test_the_reference_is_torchs_kl_div():
    s, t = torch.randn(3, 5, 2, dtype=torch.float64), torch.randn(3, 5, 2, dtype=torch.float64)
    for reduction in REDUCTIONS:
        torch.testing.assert_close(kl.reference(s, t, 3.0, reduction), by_hand(s, t, 3.0, reduction))


@compiled
@pytest.mark.parametrize("dtype", DTYPES)
def test_equal_logits_give_zero_and_no_gradient(dtype):
    x = (20 * torch.randn(5, 33)).to(dtype)
    loss, student, teacher = run(op(), x, x.clone(), "none")
    assert not loss.any()
    assert not student.any()
    assert not teacher.any()


def test_excluded_classes():
    """-inf under the teacher counts 0; one that only the student excludes is infinitely wrong."""
    t = torch.tensor([[0.0, -INF, 1.0], [-INF, -INF, 2.0], [0.5, 1.0, 2.0]])
    s = torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [0.0, -INF, 1.0]])
    loss, student, teacher = run(op(), s, t, "none")
    p, q = torch.softmax(t, 1), torch.softmax(s, 1)
    torch.testing.assert_close(loss[0], (p[0] * (p[0].log() - q[0].log()))[[0, 2]].sum())
    torch.testing.assert_close(loss[1], -q[1, 2].log())
    assert loss[2] == INF
    torch.testing.assert_close(student, q - p)
    assert teacher[:2].isfinite().all()
    assert teacher[0, 1] == 0
    assert not teacher[1].any()


def test_excluded_by_both():
    t, s = torch.tensor([[0.0, -INF, 1.0]]), torch.tensor([[1.0, -INF, 0.0]])
    loss, student, teacher = run(op(), s, t, "none")
    torch.testing.assert_close(loss, by_hand(s[:, [0, 2]], t[:, [0, 2]], 1.0, "none").float())
    assert student[0, 1] == 0
    assert teacher[0, 1] == 0


@pytest.mark.parametrize("shift", [0.0, 1e4, -3e38, 3e38])
def test_huge_logits_do_not_overflow(shift):
    s, t = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[3.0, 1.0, 2.0]])
    loss, *gradients = run(op(), s + shift, t - shift, "sum")
    want, *_ = run(lambda s, t, r: by_hand(s, t, 1.0, r), s + shift, t - shift, "sum")
    torch.testing.assert_close(loss.double(), want, rtol=1e-6, atol=1e-6)
    assert all(g.isfinite().all() for g in gradients)


def test_far_apart_logits():
    """Their probability underflows, their logarithm does not."""
    s, t = torch.tensor([[0.0, 500.0]]), torch.tensor([[500.0, 0.0]])
    loss, student, _ = run(op(), s, t, "mean")
    assert loss == 500
    assert student.tolist() == [[-1, 1]]


@pytest.mark.parametrize("value", [NAN, INF])
def test_nan_and_infinity_are_told_and_stay_in_their_row(value):
    for side in range(2):
        inputs = [torch.randn(4, 5), torch.randn(4, 5)]
        inputs[side][1, 2] = value
        loss, *gradients = run(op(), *inputs, "none")
        assert loss.isnan().tolist() == [False, True, False, False]
        for gradient in gradients:
            assert gradient[[0, 2, 3]].isfinite().all()
            assert gradient[1].isnan().any()


def test_one_class_is_always_certain():
    loss, student, teacher = run(op(), torch.randn(4, 1), torch.randn(4, 1), "none")
    assert not loss.any()
    assert not student.any()
    assert not teacher.any()


def test_no_class_counts_nothing():
    loss, student, _ = run(op(), torch.randn(3, 0), torch.randn(3, 0), "none")
    assert loss.tolist() == [0, 0, 0]
    assert student.shape == (3, 0)


@pytest.mark.parametrize("layout", [lambda x: x, lambda x: x.to(memory_format=torch.channels_last)])
def test_rows_are_positions(layout):
    """[B, C, H, W] is B H W samples of C classes."""
    s, t = torch.randn(2, 5, 3, 4), torch.randn(2, 5, 3, 4)
    got = run(op(2.0), layout(s), layout(t), "none")
    rows = [x.permute(0, 2, 3, 1).reshape(-1, 5) for x in (s, t)]
    want = run(op(2.0), *rows, "none")
    assert_close(got[0].flatten(), want[0], slack=1e-6)
    for ours, theirs in zip(got[1:], want[1:], strict=True):
        assert_close(ours.permute(0, 2, 3, 1).reshape(-1, 5), theirs, slack=1e-6)


def test_temperature_scales_the_gradient():
    s, t = leaf(torch.randn(4, 10)), torch.randn(4, 10)
    kl_discrepancy(s, t, 8.0, "sum").backward()
    want = (torch.softmax(s.detach() / 8, 1) - torch.softmax(t / 8, 1)) / 8
    torch.testing.assert_close(s.grad, want)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("temperature", [1e-50, 1e50, 5e-324, 1e300])
def test_extreme_temperatures_give_no_nan(temperature, dtype):
    """Cold picks the greatest logit, hot forgets all but which classes are excluded."""
    s = leaf(torch.tensor([[0.0, 1.0, -INF], [0.0, 0.0, 0.0]], dtype=dtype))
    t = leaf(torch.tensor([[0.0, 1.0, -INF], [0.0, 0.0, 0.0]], dtype=dtype))
    loss = kl_discrepancy(s, t, temperature, "sum")
    torch.testing.assert_close(loss.detach(), torch.zeros((), dtype=dtype))
    loss.backward()
    assert not s.grad.isnan().any()
    assert not t.grad.isnan().any()
