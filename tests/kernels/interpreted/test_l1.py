import math

import pytest
import torch
from helpers import FLOATING, assert_close, expanded, sliced, transposed

from dfad_fast.kernels import l1


def same(x):
    return x


@pytest.mark.parametrize(("student", "teacher"), [(a, a) for a in FLOATING] + [(torch.half, torch.bfloat16)])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("layouts", [(same, same), (transposed, sliced)])
def test_loss_and_gradients(student, teacher, reduction, layouts):
    s, t = (f(torch.randn(5, 7, 30).to(d)) for f, d in zip(layouts, (student, teacher), strict=True))
    dtype = torch.promote_types(student, teacher)
    out = torch.empty_like(s, dtype=dtype) if reduction == "none" else torch.empty((), dtype=dtype)
    signs = torch.empty(2, -(-s.numel() // 8), dtype=torch.uint8)
    l1.loss(s, t, reduction, out, signs)
    difference = s.double() - t.double()
    want = {"mean": torch.mean, "sum": torch.sum, "none": lambda x: x}[reduction](difference.abs())
    assert_close(out, want, torch.float32)

    grad = expanded(torch.randn(5, 7, 30)) if reduction == "none" else torch.tensor(0.3)
    slope = difference.sign() * grad.double() / (s.numel() if reduction == "mean" else 1)
    gs, gt = torch.empty_like(s), torch.empty_like(s, dtype=t.dtype)
    l1.gradient(grad, signs, reduction, gs, gt)
    assert_close(gs, slope, torch.float32)
    assert_close(gt, -slope, torch.float32)
    both = gs, gt
    for wanted in ((True, False), (False, True)):
        outs = [torch.empty_like(x) if w else None for x, w in zip(both, wanted, strict=True)]
        l1.gradient(grad, signs, reduction, *outs)
        for alone, together in zip(outs, both, strict=True):
            assert alone is None or torch.equal(alone, together)


def test_several_blocks_and_empty():
    s, t = torch.randn(3, 5000), torch.randn(3, 5000)
    out = torch.empty(())
    l1.loss(s, t, "sum", out)
    assert_close(out, (s.double() - t.double()).abs().sum())
    for reduction, want in (("mean", math.nan), ("sum", 0.0)):
        l1.loss(s[:0], t[:0], reduction, out)
        torch.testing.assert_close(out, torch.tensor(want), equal_nan=True)


def test_special_values():
    s, t = torch.tensor([1.0, math.nan, math.inf, 2.0]), torch.tensor([1.0, 1.0, math.inf, 1.0])
    out, grad, signs = torch.empty(4), torch.empty(4), torch.empty(2, 1, dtype=torch.uint8)
    l1.loss(s, t, "none", out, signs)
    assert signs.tolist() == [[0b1101], [0b0101]]
    torch.testing.assert_close(out, torch.tensor([0, math.nan, math.nan, 1]), equal_nan=True)
    l1.gradient(torch.tensor([math.inf, 1.0, 1.0, math.inf]), signs, "none", grad, None)
    torch.testing.assert_close(grad, torch.tensor([math.nan, 0, 0, math.inf]), equal_nan=True)


def test_every_bfloat16_is_read_and_rounded_exactly():
    every = torch.arange(-(2**15), 2**15).to(torch.int16).view(torch.bfloat16)
    out = torch.empty_like(every)
    l1.loss(every, torch.zeros_like(every), "none", out)
    torch.testing.assert_close(out, every.abs(), rtol=0, atol=0, equal_nan=True)
    # Between two of them, on ties and beside them: subnormal numbers, overflow and NaN among them.
    grad = (every.float().view(torch.int32) + torch.tensor([[0x7FFF], [0x8000], [0x8001], [0]])).view(
        torch.float
    )
    out = torch.empty(grad.shape, dtype=torch.bfloat16)
    above = torch.zeros(2, grad.numel() // 8, dtype=torch.uint8)
    above[0] = 255
    l1.gradient(grad, above, "none", out, None)
    torch.testing.assert_close(out, grad.bfloat16(), rtol=0, atol=0, equal_nan=True)
