"""The same bits from run to run, from one thread to many, and from one instruction-set tier to another."""

import pytest
import torch

from dfad_fast import backends
from dfad_fast.ops import boundary_hinge_loss_with_agreement, mixup, pack_signs
from tests.under_test import sized

from .helpers import DTYPES, LOSSES, compiled, leaf

SIZE = sized(300_012, 1_002)  # well above the size where threads start, and no multiple of a block
LAYOUTS = pytest.mark.parametrize("layout", ["dense", "strided"])


def everything(dtype, layout):
    """Every result of every op on fixed inputs."""
    torch.manual_seed(1)
    s, t = (torch.randn(SIZE).to(dtype) for _ in range(2))
    if layout == "strided":
        s, t = (x.view(-1, 6)[:, :5] for x in (s, t))
    results = []
    for loss in LOSSES.values():
        shape = loss.fit(SIZE) if layout == "dense" else s.shape
        for reduction in sized(("mean", "sum", "none"), ("mean", "none")):
            a, b = leaf(s.view(shape)), leaf(t.view(shape))
            value = loss.call(a, b, reduction)
            value.sum().backward()
            results += [value.detach(), a.grad, b.grad]
    a = leaf(s)
    loss, agreement = boundary_hinge_loss_with_agreement([a, a[:7], a], [t, t[:7], t], weights=[1, 0.3, 0.1])
    loss.backward()
    results += [loss.detach(), agreement, a.grad, pack_signs(t).bits]
    x = leaf(s[: s.shape[0] // 6 * 6].reshape(6, -1))
    mixed = mixup(x, torch.rand(6), torch.randperm(6))
    mixed.backward(torch.randn_like(mixed))
    return [r for r in (*results, mixed.detach(), x.grad) if r is not None]


def assert_same_bits(first, second):
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a, b)


@compiled
@LAYOUTS
@pytest.mark.parametrize("dtype", sized(DTYPES, (torch.float32,)))
def test_over_runs(dtype, layout):
    assert_same_bits(everything(dtype, layout), everything(dtype, layout))


@pytest.mark.backends("cpp")
@LAYOUTS
@pytest.mark.parametrize("dtype", DTYPES)
def test_over_threads(dtype, layout, threads):
    threads(1)
    alone = everything(dtype, layout)
    for count in (2, 5):
        threads(count)
        assert_same_bits(alone, everything(dtype, layout))


@pytest.mark.backends("cpp")
@LAYOUTS
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("tier", backends.extension.supported_tiers() if backends.extension else ["base"])
def test_over_tiers(tier, dtype, layout, set_tier):
    set_tier("base")
    base = everything(dtype, layout)
    set_tier(tier)
    assert backends.extension.tier() == tier
    assert_same_bits(base, everything(dtype, layout))
