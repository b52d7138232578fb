"""torch.func: vmap, grad, jvp and their compositions. The kernels have no batching rule, so the reference serves."""

import pytest
import torch
from torch.func import grad, jacrev, jvp, vmap

from tests.under_test import sized

from .helpers import assert_close, compiled
from .samples import CALLS

NAMES = pytest.mark.parametrize("name", CALLS)


def inputs(*leading):
    return torch.randn(*leading, 4, 5), torch.randn(*leading, 4, 5)


def scalar(name):
    return lambda s, t: CALLS[name].function(s, t).sum()


@NAMES
@pytest.mark.parametrize("in_dims", sized([(0, 0), (0, None), (1, 0)], [(1, 0)]))
def test_vmap_is_a_loop(name, in_dims):
    s, t = inputs(3)
    if in_dims[0] == 1:
        s = s.transpose(0, 1).contiguous()
    if in_dims[1] is None:
        t = t[0]
    got = vmap(CALLS[name].function, in_dims)(s, t)
    for i in range(3):
        one = CALLS[name].function(s.select(in_dims[0], i), t if in_dims[1] is None else t[i])
        torch.testing.assert_close(got[i], one)


@NAMES
def test_grad_is_backward(name):
    s, t = inputs()
    got = grad(scalar(name), CALLS[name].inputs)(s, t)
    s.requires_grad_(), t.requires_grad_()
    want = torch.autograd.grad(scalar(name)(s, t), [(s, t)[i] for i in CALLS[name].inputs])
    for ours, theirs in zip(got, want, strict=True):
        torch.testing.assert_close(ours, theirs)


@NAMES
def test_per_sample_gradients(name):
    s, t = inputs(3)
    got = vmap(grad(scalar(name)))(s, t)
    for i in range(3):
        one = s[i].clone().requires_grad_()
        scalar(name)(one, t[i]).backward()
        torch.testing.assert_close(got[i], one.grad)


@compiled
def test_batched_gradients_of_a_kernels_loss_are_refused():
    s, t = inputs()
    loss = CALLS["l1"].function(s.requires_grad_(), t)
    with pytest.raises(RuntimeError, match="not implemented for dfad_fast::l1_discrepancy_backward"):
        torch.autograd.grad(loss, s, torch.rand(3), is_grads_batched=True)


@NAMES
def test_jvp_is_the_directional_derivative(name):
    s, t = (x.double() for x in inputs())
    direction = torch.randn_like(s)
    _, tangent = jvp(lambda s: scalar(name)(s, t), (s,), (direction,))
    gradient = grad(scalar(name))(s, t)
    assert_close(tangent, (gradient * direction).sum(), slack=1e-12)


@NAMES
def test_jacrev(name):
    s, t = inputs()
    jacobian = jacrev(lambda s: CALLS[name].function(s, t))(s)
    torch.testing.assert_close(
        jacobian.reshape(-1, *s.shape).sum(0), grad(scalar(name))(s, t), rtol=1e-5, atol=1e-6
    )
