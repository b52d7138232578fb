"""Subclasses of tensors: those with a dispatch of their own go to the reference, the others to the kernels."""

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

from dfad_fast.ops import l1_discrepancy, winograd_conv2d

from .samples import CALLS

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="torch has no distributed package")


@pytest.fixture(scope="module")
def mesh():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


def whole(x):
    return x.full_tensor() if isinstance(x, DTensor) else x


@pytest.mark.parametrize("placement", [Replicate(), Shard(0)], ids=str)
@pytest.mark.parametrize("name", CALLS)
def test_a_dtensor_gets_the_value_and_the_gradients_of_a_tensor(mesh, name, placement):
    call = CALLS[name]
    values = torch.randn(2, 4, 5)
    plain = [x.clone().requires_grad_() for x in values]
    spread = [distribute_tensor(x, mesh, [placement]).requires_grad_() for x in values]
    want = call.function(*plain)
    try:
        got = call.function(*spread)
    except NotImplementedError as error:  # torch 2.11, about var_mean
        if "sharding strategy" not in str(error):
            raise
        pytest.skip(str(error))
    torch.testing.assert_close(whole(got), want)
    want.sum().backward()
    got.sum().backward()
    for i in call.inputs:
        torch.testing.assert_close(whole(spread[i].grad), plain[i].grad)


def test_a_dtensor_beside_a_tensor_is_refused_with_what_to_do(mesh):
    x = torch.randn(4, 5)
    with pytest.raises(TypeError, match=r"one class, got DTensor and Tensor: pass full_tensor\(\)"):
        l1_discrepancy(distribute_tensor(x, mesh, [Replicate()]), x)


def test_a_convolution_takes_dtensors(mesh):
    x, weight = torch.randn(1, 2, 6, 6), torch.randn(2, 2, 3, 3)
    spread = [distribute_tensor(t, mesh, [Replicate()]) for t in (x, weight)]
    torch.testing.assert_close(
        whole(winograd_conv2d(*spread)), winograd_conv2d(x, weight), rtol=1e-4, atol=1e-4
    )


class LabeledSamples(torch.Tensor):
    """The usual kind, which only adds methods."""


@pytest.mark.backends("cpp")
def test_a_subclass_without_a_dispatch_of_its_own_is_computed_by_the_kernels(monkeypatch):
    values = torch.randn(2, 4, 5)
    monkeypatch.setattr("dfad_fast.ops.l1.reference", None)  # not to be called
    got = l1_discrepancy(*(x.as_subclass(LabeledSamples) for x in values))
    assert torch.equal(got.as_subclass(torch.Tensor), l1_discrepancy(*values))
