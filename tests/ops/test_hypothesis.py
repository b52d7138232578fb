"""Shapes, strides, offsets, dtypes and values that nobody thought of."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dfad_fast.ops import mixup, pack_signs
from tests.under_test import sized

from .helpers import DTYPES, LOSSES, REDUCTIONS, assert_close, check_against_reference, leaf, mixing_of

search = settings(
    max_examples=sized(60, 10),
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
# Few and simple values, so that ties, margins and zeros are common. float16 mixes them exactly.
VALUES = (-2.0, -1.0, -0.5, -0.0, 0.0, 0.25, 0.5, 1.0, 1.5, 3.0)


@st.composite
def views(draw, shape, dtype):
    """A tensor of this shape with drawn values, order of dimensions, steps, offset, and perhaps expanded."""
    order = draw(st.permutations(range(len(shape))))
    steps = [draw(st.integers(1, 3)) for _ in shape]
    sizes = [1 if draw(st.integers(0, 9)) == 0 else n for n in shape]
    permuted = [sizes[d] * steps[d] for d in order]
    offset = draw(st.integers(0, 5))
    count = offset + int(torch.Size(permuted).numel())
    seed = draw(st.integers(0, 2**31))
    picks = torch.randint(len(VALUES), (count,), generator=torch.Generator().manual_seed(seed), device="cpu")
    storage = torch.tensor(VALUES)[picks].to(dtype)
    x = storage[offset:].view(permuted)
    x = x.permute([list(order).index(d) for d in range(len(shape))])
    return x[tuple(slice(None, None, step) for step in steps)].expand(shape)


@st.composite
def pairs(draw, dims=1):
    shape = draw(st.lists(st.integers(1, 9), min_size=dims, max_size=5))
    return tuple(draw(views(shape, draw(st.sampled_from(DTYPES)))) for _ in range(2))


@pytest.mark.parametrize("name", LOSSES)
@search
@given(data=st.data())
def test_losses(name, data):
    s, t = data.draw(pairs(2 if name == "kl" else 1))
    check_against_reference(name, s, t, data.draw(st.sampled_from(REDUCTIONS)))


@search
@given(pairs())
def test_mixup(pair):
    x, grad = pair
    grad = grad.to(x.dtype)
    lam, perm = mixing_of(x)
    weight = lam.double().reshape(-1, *[1] * (x.dim() - 1))
    x = leaf(x)
    mixed = mixup(x, lam, perm)
    wide = leaf(x.double())
    want = weight * wide + (1 - weight) * wide[perm]
    assert_close(mixed.detach(), want.detach(), torch.float32, slack=1e-6)
    mixed.backward(grad)
    want.backward(grad.double())
    assert_close(x.grad, wide.grad, torch.float32, slack=1e-6)


@search
@given(pairs())
def test_pack_signs(pair):
    packed = pack_signs(pair[0])
    assert torch.equal(packed.unpack(), ~(pair[0] <= 0))
    assert packed.nbytes == -(-pair[0].numel() // 8)
