"""Layouts, and a comparison with float64."""

import torch

FLOATING = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def transposed(x):
    return x.transpose(1, -1).contiguous().transpose(1, -1)


def expanded(x):
    return x[:, :1].expand(x.shape)


def sliced(x):
    """A view with gaps, which are NaN: reading one would show."""
    big = x.new_full([n + 1 for n in x.shape], float("nan"))
    return big[tuple(slice(1, None) for _ in x.shape)].copy_(x)


def unpacked(signs, like):
    """Packed signs as a bool tensor of the shape of ``like``."""
    bits = (signs[:, None] >> torch.arange(8) & 1).flatten().bool()
    assert not bits[like.numel() :].any()
    out = torch.empty_like(like, dtype=torch.bool)
    torch.as_strided(out, (like.numel(),), (1,)).copy_(bits[: like.numel()])
    return out


def assert_close(got, want, *dtypes, ulps=4):
    eps = max([torch.finfo(d).eps for d in (*dtypes, got.dtype)]) * ulps
    want = want.to(got.dtype).double()
    finite = want[want.isfinite()].abs()
    atol = eps * min(1.0, finite.max().item() if finite.numel() else 1.0)
    torch.testing.assert_close(got.double(), want, rtol=eps, atol=atol, equal_nan=True)
