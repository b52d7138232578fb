"""The kernels are differentiable once and say so; the reference is differentiable as often as wanted."""

import pytest
import torch
import torch.autograd.forward_ad as fwad

from dfad_fast import backends
from dfad_fast.ops import l1_discrepancy

from .helpers import compiled, leaf
from .samples import CALLS

NAMES = pytest.mark.parametrize("name", CALLS)
# Mixtures are linear: what is square in these samples is plain PyTorch around the op.
CURVED = [name for name, call in CALLS.items() if call.op != "mixup"]


def first_gradient(name):
    s, t = leaf(torch.randn(4, 5)), torch.randn(4, 5)
    (gradient,) = torch.autograd.grad(CALLS[name].function(s, t).sum(), s, create_graph=True)
    return gradient, s


@compiled
@pytest.mark.parametrize("name", CURVED)
def test_a_second_backward_raises(name):
    gradient, _ = first_gradient(name)
    assert gradient.requires_grad
    op = CALLS[name].op
    with pytest.raises(NotImplementedError, match=rf"^{op}: double backward is not implemented.*'reference'"):
        gradient.sum().backward()


@compiled
@pytest.mark.parametrize("name", ["mixup", "virtual_batch"])
def test_a_second_backward_through_a_mixture_raises(name):
    gradient, s = first_gradient(name)
    with pytest.raises(NotImplementedError, match=r"^mixup: double backward is not implemented"):
        torch.autograd.grad(gradient.square().sum(), s)


@compiled
def test_a_second_backward_with_respect_to_grad_output_raises():
    s, t, g = leaf(torch.randn(6)), torch.randn(6), leaf(torch.tensor(1.0))
    (gradient,) = torch.autograd.grad(l1_discrepancy(s, t), s, grad_outputs=g, create_graph=True)
    with pytest.raises(NotImplementedError, match="double backward"):
        torch.autograd.grad(gradient.sum(), g)


@NAMES
def test_the_reference_can_be_differentiated_twice(name):
    with backends.use_backend("reference"):
        gradient, s = first_gradient(name)
        (second,) = torch.autograd.grad(gradient.square().sum(), s)
        assert second.isfinite().all()
        assert second.any() == CALLS[name].twice, "only L1 is linear between its ties"


@NAMES
def test_forward_mode_gives_the_tangent(name):
    x, y, along = torch.randn(4, 5), torch.randn(4, 5), torch.randn(4, 5)
    (gradient,) = torch.autograd.grad(CALLS[name].function(s := leaf(x), y).sum(), s)
    with fwad.dual_level():
        tangent = fwad.unpack_dual(CALLS[name].function(fwad.make_dual(x, along), y).sum()).tangent
    torch.testing.assert_close(tangent, (gradient * along).sum())
