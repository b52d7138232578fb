import math

import pytest
import torch
from helpers import FLOATING, assert_close, sliced, transposed

from dfad_fast.kernels import kl


def eager(s, t, temperature):
    log_q, log_p = (torch.log_softmax(x / temperature, 1) for x in (s, t))
    p = log_p.exp()
    return torch.where(p == 0, 0, p * (log_p - log_q)).sum(1)


def run(s, t, temperature, reduction, grad, wanted=(True, True)):
    rows = [n for d, n in enumerate(s.shape) if d != 1]
    dtype = torch.promote_types(s.dtype, t.dtype)
    out = torch.empty(rows if reduction == "none" else (), dtype=dtype)
    wide = torch.promote_types(dtype, torch.float32)
    statistics = torch.empty((5, math.prod(rows)), dtype=wide)
    kl.loss(s, t, temperature, reduction, out, statistics)
    outs = [torch.empty_like(x) if w else None for x, w in zip((s, t), wanted, strict=True)]
    kl.gradient(grad, s, t, statistics, temperature, reduction, *outs)
    return out, statistics, *outs


def check(s, t, temperature, reduction):
    rows = [n for d, n in enumerate(s.shape) if d != 1]
    grad = (
        torch.randn(rows[::-1]).permute(*range(len(rows))[::-1]) if reduction == "none" else torch.tensor(0.3)
    )
    out, statistics, gs, gt = run(s, t, temperature, reduction, grad)
    ds, dt = s.double().requires_grad_(), t.double().requires_grad_()
    each = eager(ds, dt, temperature)
    want = {"mean": torch.mean, "sum": torch.sum, "none": lambda x: x}[reduction](each)
    want.backward(grad.double())
    computed = torch.promote_types(torch.promote_types(s.dtype, t.dtype), torch.float32)
    ulps = 64  # exponentials of logits of several units, in float32
    assert_close(out, want.detach(), computed, ulps=ulps)
    assert_close(gs, ds.grad, computed, ulps=ulps)
    assert_close(gt, dt.grad, computed, ulps=ulps)
    want = [each.detach().flatten()]
    for x in (t.double() / temperature, s.double() / temperature):
        largest = x.amax(1)
        want = [largest.flatten(), (torch.logsumexp(x, 1) - largest).flatten(), *want]
    assert_close(statistics, torch.stack(want), ulps=ulps)


@pytest.mark.parametrize("dtype", FLOATING)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_logits(dtype, reduction):
    s, t = torch.randn(33, 10) * 3, torch.randn(33, 10) * 3
    check(s.to(dtype), t.to(dtype), 4.0, reduction)


@pytest.mark.parametrize("shape", [(2, 2500), (3, 1), (2, 17, 3, 10), (200, 16), (1, 3, 2)])
def test_shapes_and_layouts(shape):
    s, t = torch.randn(shape), torch.randn(shape).bfloat16()
    check(s, t, 1.0, "none")
    check(transposed(s), sliced(t), 0.3, "mean")
    if len(shape) == 4:
        check(s.to(memory_format=torch.channels_last), t, 1.0, "sum")


def test_one_side_is_as_both():
    s, t, grad = torch.randn(6, 10), torch.randn(6, 10), torch.tensor(1.0)
    both = run(s, t, 1.0, "mean", grad)[2:]
    assert torch.equal(run(s, t, 1.0, "mean", grad, (True, False))[2], both[0])
    assert torch.equal(run(s, t, 1.0, "mean", grad, (False, True))[3], both[1])


def test_special_values():
    s = torch.tensor([[1.0, 2.0, 3.0], [1.0, -math.inf, 3.0], [1.0, math.nan, 0.0], [500.0, 0.0, -500.0]])
    t = torch.tensor([[1.0, -math.inf, 3.0], [1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [500.0, 0.0, 0.0]])
    out, _, gs, gt = run(s, t, 1.0, "none", torch.ones(4))
    torch.testing.assert_close(out, eager(s, t, 1.0), equal_nan=True)
    assert out[1] == math.inf
    assert out[2].isnan()
    assert gs[[0, 1, 3]].isfinite().all()
    assert gt[0].tolist()[1] == 0
    assert gt[3].tolist() == [0, 0, 0]


@pytest.mark.parametrize(("reduction", "want"), [("mean", math.nan), ("sum", 0.0)])
def test_no_rows(reduction, want):
    x = torch.empty(0, 5)
    out, _, gs, _ = run(x, x, 1.0, reduction, torch.tensor(1.0))
    torch.testing.assert_close(out, torch.tensor(want), equal_nan=True)
    assert gs.shape == (0, 5)


def test_no_classes():
    x = torch.empty(3, 0)
    assert run(x, x, 1.0, "none", torch.ones(3))[0].tolist() == [0, 0, 0]
