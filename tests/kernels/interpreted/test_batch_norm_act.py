import pytest
import torch
from helpers import FLOATING, assert_close, expanded, sliced, transposed

from dfad_fast.kernels import _channel_tiles, batch_norm_act

EPS = 1e-5


def by_channel(values, x):
    return values.double().reshape(1, -1, *[1] * (x.dim() - 2))


def wanted(x, residual, weight, bias, statistics, constant, slope, grad):
    """Output, statistics, and the gradients of x, residual, weight and bias, by torch in float64."""
    given = [None if t is None else t.double().clone().requires_grad_() for t in (x, residual, weight, bias)]
    wide, beside, scale, shift = given
    if not constant:
        dims = [d for d in range(x.dim()) if d != 1]
        statistics = torch.stack((wide.mean(dims), wide.var(dims, correction=0)))
    mean, variance = (by_channel(t, x) for t in statistics)
    out = (wide - mean) / (variance + EPS).sqrt()
    out = out if scale is None else out * by_channel(scale, x)
    out = out if shift is None else out + by_channel(shift, x)
    out = out if beside is None else out + beside
    out = torch.where(out > 0, out, slope * out)
    out.backward(grad.double())
    return out.detach(), statistics.detach(), [None if t is None else t.grad for t in given]


def check(x, residual=None, weight=None, bias=None, constant=False, slope=0.0):
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    statistics = torch.stack((torch.randn(x.shape[1]), torch.rand(x.shape[1]) + 0.1)).to(wide)
    grad = torch.randn(x.shape).to(x.dtype)
    out = torch.empty_like(x)
    batch_norm_act.forward(x, residual, weight, bias, constant, slope, EPS, out, statistics)
    want, want_statistics, want_grads = wanted(x, residual, weight, bias, statistics, constant, slope, grad)
    assert_close(out, want, wide, ulps=64)
    assert_close(statistics, want_statistics, wide, ulps=64)

    likes = (x, x if residual is not None else None, weight, bias)
    grads = [None if like is None else torch.empty_like(like) for like in likes]
    arguments = (
        grad,
        x,
        out if residual is not None else None,
        weight,
        bias,
        statistics,
        constant,
        slope,
        EPS,
    )
    batch_norm_act.gradient(*arguments, *grads)
    for got, of, like in zip(grads, want_grads, likes, strict=True):
        if got is not None:
            assert_close(got, of, wide, x.dtype if like is x else wide, ulps=256)
    return arguments, grads


def channels(count, *dtypes):
    return [torch.randn(count).to(dtype) for dtype in dtypes]


@pytest.mark.parametrize("dtype", FLOATING)
@pytest.mark.parametrize("layout", [torch.clone, transposed, sliced, expanded])
def test_dtypes_and_layouts(dtype, layout):
    x = layout(torch.randn(3, 5, 4, 6).to(dtype))
    check(x, torch.randn(3, 5, 4, 6).to(dtype), *channels(5, torch.float32, dtype))
    check(x, None, *channels(5, torch.bfloat16, torch.float64), slope=0.25)


@pytest.mark.parametrize("slope", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("constant", [False, True])
def test_modes(slope, constant):
    for residual in (None, torch.randn(4, 6, 7)):
        for weight, bias in ((None, None), channels(6, torch.float32, torch.float32)):
            check(torch.randn(4, 6, 7), residual, weight, bias, constant, slope)


@pytest.mark.parametrize("constant", [False, True])
def test_each_gradient_alone_is_the_one_among_all(constant):
    x, residual = torch.randn(4, 6, 7), torch.randn(4, 6, 7)
    arguments, grads = check(x, residual, *channels(6, torch.float32, torch.float32), constant)
    for i, together in enumerate(grads):
        alone = [torch.empty_like(g) if i == j else None for j, g in enumerate(grads)]
        batch_norm_act.gradient(*arguments, *alone)
        assert torch.equal(alone[i], together)


@pytest.mark.parametrize(
    "shape", [(70, 65), (9, 1), (2, 130), (3, 2, 2500), (1, 4, 33), (5000, 3), (4, 1, 3), (40, 7, 49)]
)
def test_shapes(shape):
    check(torch.randn(shape), torch.randn(shape), *channels(shape[1], torch.float32, torch.float32))


@pytest.mark.parametrize("shape", [(700, 5), (90, 3, 7), (30, 3, 70)])
def test_chunks_of_several_steps(shape, monkeypatch):
    monkeypatch.setattr(_channel_tiles, "_TILE", 256)
    monkeypatch.setattr(_channel_tiles, "_ENOUGH_PROGRAMS", 4)
    plan = _channel_tiles.tiles_of(torch.empty(shape))
    assert plan.outer < plan.rows or (plan.chunk_rows > plan.rows and plan.chunks > 1)
    check(torch.randn(shape))


def test_far_from_zero_behind_an_outlier():
    x = torch.randn(64, 3, 9) + 1000
    x[0, :, 0] = 1e6
    out, statistics = torch.empty_like(x), torch.empty(2, 3)
    batch_norm_act.forward(x, None, None, None, False, 1.0, EPS, out, statistics)
    want = torch.stack((x.double().mean((0, 2)), x.double().var((0, 2), correction=0)))
    torch.testing.assert_close(statistics.double(), want, rtol=1e-6, atol=0)


def test_no_image():
    x, statistics = torch.empty(0, 3, 2), torch.ones(2, 3)
    batch_norm_act.forward(x, None, None, None, True, 0.0, EPS, torch.empty_like(x), statistics)
    weight_grad, bias_grad = torch.empty(3), torch.empty(3)
    arguments = (x, x, None, torch.ones(3), None, statistics, True, 0.0, EPS)
    batch_norm_act.gradient(*arguments, torch.empty_like(x), None, weight_grad, bias_grad)
    assert weight_grad.tolist() == bias_grad.tolist() == [0, 0, 0]
