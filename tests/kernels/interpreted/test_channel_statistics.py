import pytest
import torch
from helpers import FLOATING, assert_close, expanded, sliced, transposed

from dfad_fast.kernels import channel_statistics


def exact(x):
    dims = [d for d in range(x.dim()) if d != 1]
    mean = x.double().mean(dims, keepdim=True)
    return torch.stack((mean.flatten(), (x.double() - mean).square().mean(dims)))


def gradient_of(x, grad):
    shape = [1, -1, *[1] * (x.dim() - 2)]
    mean, by_mean, by_variance = (v.double().reshape(shape) for v in (exact(x)[0], *grad))
    return (by_mean + 2 * by_variance * (x.double() - mean)) * x.shape[1] / x.numel()


def check(features, dtype=torch.float32):
    channels = [x.shape[1] for x in features]
    out = torch.empty(2, sum(channels), dtype=dtype)
    channel_statistics.statistics(features, out)
    grad = torch.randn(sum(channels), 2).T
    gradients = [torch.empty_like(x) for x in features]
    channel_statistics.gradient(grad, features, out, gradients)
    parts = zip(features, out.split(channels, 1), grad.split(channels, 1), gradients, strict=True)
    for x, got, own_grad, gradient in parts:
        torch.testing.assert_close(got.double(), exact(x), rtol=1e-5, atol=2e-6, equal_nan=True)
        assert_close(gradient, gradient_of(x, own_grad), torch.float32, ulps=32)


@pytest.mark.parametrize("dtype", FLOATING)
@pytest.mark.parametrize("layout", [torch.clone, transposed, sliced, expanded])
def test_dtypes_and_layouts(dtype, layout):
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    check([layout(torch.randn(3, 5, 4, 6).to(dtype) + 0.5)], wide)


@pytest.mark.parametrize("shape", [(70, 65), (2, 1), (1, 3), (3, 2, 90, 70), (20000, 3), (4, 3, 1)])
def test_shapes(shape):
    check([torch.randn(shape)])


def test_more_tensors_than_one_launch_takes():
    features = [torch.randn(4, n, 3) for n in range(1, 12)]
    features[3] = features[3].bfloat16()
    features[5] = features[5].double()
    features[7] = features[7][:0]
    features[8] = features[8][:, :0]
    check(features, torch.float64)
