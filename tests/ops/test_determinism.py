"""The same bits from run to run, from one thread to many, and from one instruction-set tier to another."""

import pytest
import torch

from dfad_fast import backends
from dfad_fast.ops import boundary_hinge_loss, l1_discrepancy, mixup

from .helpers import DTYPES, leaf

SIZE = 300_007  # well above the size where threads start, and no multiple of a block


def everything(dtype, layout):
    """Every result of every op on fixed inputs."""
    torch.manual_seed(1)
    s, t = (torch.randn(SIZE).to(dtype) for _ in range(2))
    if layout == "strided":
        s, t = (x[: SIZE // 6 * 6].view(-1, 6)[:, :5] for x in (s, t))
    results = []
    for reduction in ("mean", "sum", "none"):
        for op in (boundary_hinge_loss, l1_discrepancy):
            a, b = leaf(s), leaf(t)
            loss = op(a, b, reduction=reduction)
            loss.sum().backward()
            results += [loss.detach(), a.grad, b.grad]
    a = leaf(s)
    loss = boundary_hinge_loss([a, a[:7], a], [t, t[:7], t], weights=[1, 0.3, 0.1])
    loss.backward()
    results += [loss.detach(), a.grad]
    x = leaf(s[: 300_000 if layout == "dense" else 50_000].reshape(50, -1))
    mixed = mixup(x, torch.rand(50), torch.randperm(50))
    mixed.backward(torch.randn_like(mixed))
    return [r for r in (*results, mixed.detach(), x.grad) if r is not None]


def assert_same_bits(first, second):
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("layout", ["dense", "strided"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_over_runs_and_threads(dtype, layout, threads):
    threads(1)
    alone = everything(dtype, layout)
    assert_same_bits(alone, everything(dtype, layout))
    for count in (2, 3, 5):
        threads(count)
        assert_same_bits(alone, everything(dtype, layout))


@pytest.mark.parametrize("layout", ["dense", "strided"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("tier", backends.extension.supported_tiers() if backends.extension else ["base"])
def test_over_tiers(tier, dtype, layout, set_tier):
    set_tier("base")
    base = everything(dtype, layout)
    set_tier(tier)
    assert backends.extension.tier() == tier
    assert_same_bits(base, everything(dtype, layout))


def halves():
    """Every float16 there is, as bits."""
    return torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(torch.float16)


@pytest.mark.parametrize("tier", backends.extension.supported_tiers() if backends.extension else ["base"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_every_half_is_read_exactly(tier, dtype, set_tier):
    """|x - 0| of a half and a float32 is a float32."""
    set_tier(tier)
    x = halves().view(dtype)
    got = l1_discrepancy(x, torch.zeros(x.shape), "none")
    assert torch.equal(got.nan_to_num(nan=-1.0), x.float().abs().nan_to_num(nan=-1.0))


@pytest.mark.parametrize("tier", backends.extension.supported_tiers() if backends.extension else ["base"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_rounding_to_halves_is_torchs(tier, dtype, set_tier):
    """Gradients of float32 losses, rounded to a half: on, beside and halfway between its neighbours."""
    set_tier(tier)
    exact = halves().view(dtype).float()
    exact = exact[exact.isfinite()].sort().values
    ulp = exact.diff()
    wide = torch.cat([exact, *(exact[:-1] + ulp * f for f in (0.25, 0.5, 0.75)), exact * 1.0001, exact * 1.5])
    wide = torch.cat([wide, torch.tensor([float("inf"), -float("inf"), 1e30, 65520.0, 65519.9, 1e-9, 3e-8])])
    student = leaf(torch.ones(wide.shape, dtype=dtype))
    l1_discrepancy(student, torch.zeros(wide.shape), "none").backward(wide)
    torch.testing.assert_close(student.grad, wide.to(dtype), rtol=0, atol=0)
