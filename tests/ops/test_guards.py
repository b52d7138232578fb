"""Nothing outside an operand is read or written, at any address; nothing of a result stays unwritten."""

import pytest
import torch

from dfad_fast.ops import mixup
from tests.under_test import sized

from .helpers import LOSSES, check_against_reference, leaf, mixing_of

NAMES = pytest.mark.parametrize("name", LOSSES)
DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
OFFSETS = range(41)


class Guarded:
    """Values that start ``offset`` elements into a buffer of NaN, with more NaN behind them."""

    def __init__(self, values, offset):
        self.buffer = values.new_full((values.numel() + 2 * len(OFFSETS),), float("nan"))
        self.values = self.buffer[offset : offset + values.numel()].view(values.shape)
        self.values.copy_(values)
        self.before = self.buffer.clone()

    def check(self):
        assert torch.equal(self.buffer.view(torch.uint8), self.before.view(torch.uint8))


def test_the_guards_guard():
    guarded = Guarded(torch.randn(3), 5)
    guarded.buffer[4] = 1
    with pytest.raises(AssertionError):
        guarded.check()


def test_empties_are_poisoned():
    """What the rest relies on: memory that torch hands out is NaN, or 255, until it is written."""
    assert torch.empty(9).isnan().all()
    assert torch.empty_like(torch.zeros(4, 3).t()).isnan().all()
    assert torch.empty(9, dtype=torch.uint8).eq(255).all()
    assert torch.ops.aten.empty_like.default(torch.zeros(9)).isnan().all()


@NAMES
@DTYPES
def test_every_address(name, dtype):
    """Student, teacher and grad each at every offset from an aligned address, no two alike."""
    size = sized(594, 300)  # more than 256: a full tile of the CUDA kernels takes another path than the rest
    s, t, g = (torch.randn(size).to(dtype).view(LOSSES[name].fit(size)) for _ in range(3))
    if name == "kl":
        g = g[:, 0]
    for i in OFFSETS[:: sized(1, 10)]:
        operands = [
            Guarded(x, offset) for x, offset in ((s, i), (t, (3 * i + 1) % 41), (g, (7 * i + 2) % 41))
        ]
        check_against_reference(name, *(o.values for o in operands[:2]), "none", operands[2].values)
        check_against_reference(name, *(o.values for o in operands[:2]), "sum")
        for operand in operands:
            operand.check()


@NAMES
@pytest.mark.parametrize("size", [1, 7, 8, 9, 16, 17, 33, 63, 65, 256, 263])
def test_every_tail(name, size):
    for i in OFFSETS[:: sized(1, 13)]:
        operands = [Guarded(torch.randn(size).view(LOSSES[name].fit(size)), offset) for offset in (i, 40 - i)]
        for reduction in ("none", "sum"):
            check_against_reference(name, *(o.values for o in operands), reduction)
        for operand in operands:
            operand.check()


@DTYPES
@pytest.mark.parametrize("columns", [33, 60])
def test_mixup_at_every_address(dtype, columns):
    x, g = torch.randn(5, columns).to(dtype), torch.randn(5, columns).to(dtype)
    lam, perm = mixing_of(x)
    want = mixup(x, lam, perm)
    leaf_x = leaf(x)
    (want_grad,) = torch.autograd.grad(mixup(leaf_x, lam, perm), leaf_x, g)
    for i in OFFSETS[:: sized(1, 10)]:
        operands = [Guarded(x, i), Guarded(g, (3 * i + 1) % 41)]
        moved = leaf(operands[0].values)
        mixed = mixup(moved, lam, perm)
        assert torch.equal(mixed, want)
        assert torch.equal(torch.autograd.grad(mixed, moved, operands[1].values)[0], want_grad)
        for operand in operands:
            operand.check()
