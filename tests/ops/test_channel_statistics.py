"""Mean and biased variance per channel: against float64, whatever the layout, and where sums lose digits."""

import math

import pytest
import torch

from dfad_fast.ops import batch_norm_statistics_loss, channel_statistics
from dfad_fast.ops.channels import reference
from tests.under_test import sized

from .helpers import DTYPES, LAYOUTS, SHAPE, assert_close, assert_same, channels_last, compiled, leaf
from .test_guards import OFFSETS, Guarded

# Channels that divide a group of lanes, that do not, that are one more, and too many for a table of their period.
CHANNELS = sized((1, 2, 3, 8, 10, 16, 31, 32, 33, 48, 64, 100, 1001, 2500), (1, 3, 16, 33))


def exact(x):
    wide = x.detach().double()
    dims = [d for d in range(x.dim()) if d != 1]
    return torch.stack((wide.mean(dims), wide.var(dims, correction=0)))


def gradient_of(x, grad):
    """By the formula, in float64."""
    wide, (by_mean, by_variance) = x.detach().double(), grad.double()
    count = x.numel() / x.shape[1]
    shape = [1, -1, *[1] * (x.dim() - 2)]
    mean = exact(x)[0].reshape(shape)
    return (by_mean.reshape(shape) + 2 * by_variance.reshape(shape) * (wide - mean)) / count


def memory_order(x):
    return [stride for stride, size in zip(x.stride(), x.shape, strict=True) if size > 1]


def check(x, slack=0.0):
    x = leaf(x)
    got = channel_statistics(x)
    grad = torch.randn(got.shape).to(got.dtype)
    (gradient,) = torch.autograd.grad(got, x, grad)
    assert got.dtype == (torch.float64 if x.dtype == torch.float64 else torch.float32)
    scale = x.detach().double().square().mean().item()
    assert_close(got.detach(), exact(x), torch.float32, slack=slack + 3e-6 * max(scale, scale**0.5))
    assert gradient.dtype == x.dtype
    assert memory_order(gradient) == memory_order(torch.empty_like(x))
    largest = (grad.abs().max() * x.detach().abs().max() * x.shape[1] / x.numel()).item()
    assert_close(gradient, gradient_of(x, grad), torch.float32, slack=slack + 1e-6 * largest)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_dtypes_and_layouts(dtype, layout):
    check(layout(torch.randn(SHAPE).to(dtype) + 0.5))


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("dtype", sized((torch.float32, torch.float64, torch.bfloat16), (torch.float32,)))
def test_rows_of_any_number_of_channels(channels, dtype):
    for rows in sized((1, 2, 7, 130), (5, 130)):
        check(torch.randn(rows, channels).to(dtype))
    check(channels_last(torch.randn(3, channels, 5, 7).to(dtype)))


@pytest.mark.parametrize(
    "shape",
    sized(
        [(1, 1), (3, 5, 1), (40, 3, 2), (2, 600, 3), (130, 2, 31, 33), (2, 2, 130, 257), (2, 3, 2, 3, 2)],
        [(1, 1), (40, 3, 2), (2, 3, 2, 3, 2), (2, 2, 70, 50)],
    ),
)
def test_planes_of_any_size(shape):
    check(torch.randn(shape))
    check(torch.randn(shape).bfloat16())


@pytest.mark.parametrize("layout", LAYOUTS[:4])
@pytest.mark.parametrize("level", [1e4, -3e6])
def test_a_mean_far_from_zero_takes_no_digits_of_the_variance(layout, level):
    x = layout(level + torch.randn(8, 6, 9, 9).mul(4).round())
    mean, variance = channel_statistics(x)
    assert_close(mean, exact(x)[0], torch.float32)
    torch.testing.assert_close(variance.double(), exact(x)[1], rtol=2e-6, atol=0)


def test_an_outlier_that_everything_is_shifted_by():
    x = torch.randn(64, 16, 8, 8)
    x[0, :, 0, 0] = 30.0
    for layout in LAYOUTS[:2]:
        torch.testing.assert_close(channel_statistics(layout(x))[1].double(), exact(x)[1], rtol=2e-5, atol=0)


def test_equal_values_have_the_variance_0():
    x = torch.full((9, 5, 7, 7), 0.1)
    for layout in LAYOUTS[:2]:
        mean, variance = channel_statistics(layout(x))
        assert torch.equal(mean, torch.full((5,), 0.1))
        assert not variance.any()


@pytest.mark.parametrize("layout", LAYOUTS[:2])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 2])
def test_nan_and_infinity_stay_in_their_channel(layout, value, place):
    x = torch.randn(4, 5, 6, 6)
    x[place, 2, place, 1] = value
    x[place, 2, 0, 0] = value
    mean, variance = channel_statistics(layout(x))
    others = [0, 1, 3, 4]
    assert_close(torch.stack((mean, variance))[:, others], exact(x)[:, others], torch.float32, slack=1e-6)
    assert not mean[2].isfinite()  # torch.var_mean gives NaN, torch.mean an infinity
    assert variance[2].isnan()


def test_without_values_they_are_nan():
    for shape in ((0, 3), (2, 3, 0, 4)):
        x = leaf(torch.empty(shape))
        got = channel_statistics(x)
        assert got.shape == (2, 3)
        assert got.isnan().all()
        got.sum().backward()
        assert x.grad.shape == shape
    assert channel_statistics(torch.empty(4, 0, 3)).shape == (2, 0)


def test_a_list_is_each_of_its_tensors():
    features = [
        leaf(channels_last(torch.randn(4, 16, 9, 9))),
        leaf(torch.randn(4, 3, 70, 70).bfloat16()),
        leaf(torch.randn(0, 4)),
        leaf(torch.randn(4, 6)),
        leaf(torch.randn(5, 7).half()[:, ::2]),
    ]
    got = channel_statistics(features)
    for x, statistics in zip(features, got, strict=True):
        assert_same(statistics.detach().contiguous(), channel_statistics(x.detach()))
    grads = [torch.randn(statistics.shape) for statistics in got]
    gradients = torch.autograd.grad(got, features, grads)
    for x, grad, gradient in zip(features, grads, gradients, strict=True):
        alone = leaf(x.detach())
        assert_same(gradient, torch.autograd.grad(channel_statistics(alone), alone, grad)[0])


def test_more_tensors_than_one_launch_takes():
    features = [torch.randn(k % 5 + 2, k % 3 + 1) for k in range(sized(70, 19))]
    for x, statistics in zip(features, channel_statistics(features), strict=True):
        assert_close(statistics, exact(x), slack=1e-6)


def test_only_what_is_asked_for_gets_a_gradient():
    features = [leaf(torch.randn(4, 3)), torch.randn(4, 5), leaf(torch.randn(4, 2).double())]
    everything = channel_statistics(features)
    loss = sum((k + 1) * s.square().sum() for k, s in enumerate(everything))
    for k in (0, 2):
        (got,) = torch.autograd.grad(loss, features[k], retain_graph=True)
        alone = leaf(features[k].detach())
        want = (k + 1) * channel_statistics(alone).square().sum()
        torch.testing.assert_close(got, torch.autograd.grad(want, alone)[0])


def test_a_float64_tensor_is_computed_in_float64_beside_others():
    wide, single = torch.randn(6, 3, dtype=torch.float64), torch.randn(6, 2)
    statistics = channel_statistics([single, wide])
    assert [s.dtype for s in statistics] == [torch.float64] * 2
    torch.testing.assert_close(statistics[1], exact(wide), rtol=1e-14, atol=1e-14)


def test_gradcheck():
    shapes = sized(((4, 3, 2), (5, 2)), ((2, 2, 2), (2, 1)))
    x, y = (leaf(torch.randn(shape, dtype=torch.float64)) for shape in shapes)
    assert torch.autograd.gradcheck(lambda *f: tuple(channel_statistics(list(f))), (x, y))


@pytest.mark.parametrize("size", [(), (1, 4), (2, 1), (4, 2)])
@pytest.mark.parametrize("shape", [(5, 4, 3), (70, 4)])
def test_gradients_with_any_strides(shape, size):
    x, grad = leaf(torch.randn(shape)), torch.randn(size)
    if size == (4, 2):
        grad = grad.T
    statistics = channel_statistics(x)
    got, want = (
        torch.autograd.grad(statistics, x, g, retain_graph=True)[0]
        for g in (grad.expand(2, 4), grad.expand(2, 4).contiguous())
    )
    assert torch.equal(got, want)


def test_channels_after_an_odd_number_of_others():
    features = [leaf(torch.randn(shape)) for shape in ((9, 3), (70, 8), (70, 2))]
    got, want = (
        torch.autograd.grad(statistics, features, torch.linspace(-1, 1, 26).view(2, 13))
        for statistics in (torch.cat(channel_statistics(features), 1), reference(features))
    )
    torch.testing.assert_close(got, want)


@compiled
def test_statistics_that_were_changed_are_not_taken_for_those_of_x():
    x = leaf(torch.randn(5, 4))
    statistics = channel_statistics(x)
    loss = statistics.sum()
    statistics.detach().zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("channels_inside", [False, True])
def test_every_address(channels_inside):
    for dtype in DTYPES:
        values = torch.randn(7, 5, 3, 3).to(dtype)
        for offset in OFFSETS[:: sized(3, 13)]:
            guarded = Guarded(values.permute(0, 2, 3, 1) if channels_inside else values, offset)
            x = guarded.values.permute(0, 3, 1, 2) if channels_inside else guarded.values
            check(x)
            guarded.check()


@pytest.mark.backends("cpp")
@pytest.mark.parametrize("layout", LAYOUTS[:2])
def test_the_same_bits_by_any_tier_and_number_of_threads(layout, threads, set_tier):
    from dfad_fast import backends

    def everything():
        torch.manual_seed(3)
        features = [leaf(layout(torch.randn(9, c, 20, 21)).to(d)) for c in (3, 16, 48) for d in DTYPES]
        statistics = channel_statistics(features)
        gradients = torch.autograd.grad(
            statistics, features, [torch.randn(s.shape).double() for s in statistics]
        )
        return [*statistics, *gradients]

    set_tier("base")
    threads(1)
    want = everything()
    for tier in backends.extension.supported_tiers():
        set_tier(tier)
        for count in (1, 3):
            threads(count)
            assert all(torch.equal(a, b) for a, b in zip(everything(), want, strict=True))


def by_hand(features, means, variances):
    total = 0.0
    for x, mean, variance in zip(features, means, variances, strict=True):
        made = reference([x])
        total = (
            total + torch.linalg.vector_norm(made[0] - mean) + torch.linalg.vector_norm(made[1] - variance)
        )
    return total


def layers(dtype=torch.float32):
    features = [torch.randn(4, 6, 5, 5), channels_last(torch.randn(4, 3, 9, 9)), torch.randn(4, 8)]
    features = [leaf(x.to(dtype)) for x in features]
    return features, [torch.randn(x.shape[1]) for x in features], [torch.rand(x.shape[1]) for x in features]


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_loss_is_the_sum_of_distances(dtype):
    features, means, variances = layers(dtype)
    loss = batch_norm_statistics_loss(features, means, variances)
    wide = [leaf(x.detach().double()) for x in features]
    want = by_hand(wide, [m.double() for m in means], [v.double() for v in variances])
    assert_close(loss.detach(), want.detach(), torch.float32, slack=1e-6)
    gradients = torch.autograd.grad(loss, features)
    for got, exact_gradient in zip(gradients, torch.autograd.grad(want, wide), strict=True):
        assert_close(got, exact_gradient, torch.float32, slack=1e-6)


def test_the_loss_of_one_layer():
    (x, *_), (mean, *_), (variance, *_) = layers()
    assert torch.equal(
        batch_norm_statistics_loss(x, mean, variance), batch_norm_statistics_loss([x], [mean], [variance])
    )


def test_statistics_that_agree_have_the_loss_0_and_a_finite_gradient():
    x = leaf(torch.randn(4, 3))
    mean, variance = channel_statistics(x.detach())
    loss = batch_norm_statistics_loss(x, mean, variance)
    loss.backward()
    assert loss == 0
    assert not x.grad.any()
