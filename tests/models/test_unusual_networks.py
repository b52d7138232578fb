"""What networks do between a layer and what follows it: QuickLayers must give what they give by themselves."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from dfad_fast import backends
from dfad_fast.models.reading.taps import Tap, Taps
from dfad_fast.models.surgery.quick_layers import QuickLayers

pytestmark = pytest.mark.skipif(backends.extension is None, reason="no extension was built")

IMAGES = torch.randn(4, 8, 8, 8, generator=torch.Generator().manual_seed(1))


class Pass(nn.Module):
    def forward(self, x):
        return x


class Add(nn.Module):
    def forward(self, x, y):
        return x + y


class Merge(nn.Module):
    def __init__(self, activation):
        super().__init__()
        self.activation = activation

    def forward(self, x, y):
        return self.activation(x + y)


class Network(nn.Module):
    """``way(self, x)``, with a layer ``n``, which may be a norm or a convolution, and ``act``."""

    def __init__(self, way, layer, activation):
        super().__init__()
        torch.manual_seed(0)
        self.way, self.act = way, activation
        self.c = nn.Conv2d(8, 8, 1)
        self.n = nn.BatchNorm2d(8) if layer == "norm" else nn.Conv2d(8, 8, 3, padding=1)
        self.through, self.add, self.merge = Pass(), Add(), Merge(activation)
        self.inplace, self.drop = nn.ReLU(inplace=True), nn.Dropout(0.2)

    def forward(self, x):
        return self.way(self, x)


def in_no_grad(net, x):
    with torch.no_grad():
        y = net.n(net.c(x))
    return net.act(y + x)


def activated_in_no_grad(net, x):
    y = net.n(net.c(x))
    with torch.no_grad():
        z = net.act(y)
    return z * x


def alias(net, x):
    x = net.c(x)
    out = net.n(net.drop(x))
    return net.act(out + F.relu(x, inplace=True))


def keeps_shape(net, x):
    y = net.n(net.c(x))
    net.shape = y.shape
    return net.act(y + x)


def keeps_output(net, x):
    net.pre = net.n(net.c(x))
    return net.act(net.pre + x)


def keeps_outputs(net, x):
    net.pre = [net.n(net.c(x))]
    return net.act(net.pre[0])


def narrower(net, x):
    y = net.n(net.c(x))
    y += x.double()
    return net.act(y)


def under_autocast(net, x):
    with torch.autocast("cpu", torch.bfloat16):
        y = net.n(net.c(x))
    return net.act(y.float() + x)


def inside_autocast(net, x):
    with torch.autocast("cpu", torch.bfloat16):
        return net.act(net.n(net.c(x)) + x).float()


WAYS = {
    "modules between": lambda net, x: net.act(net.add(net.through(net.n(net.c(x))), x)),
    "a sum and an activation in a module": lambda net, x: net.merge(net.n(net.c(x)), x),
    "in place behind": lambda net, x: net.inplace(net.act(net.n(net.c(x)))),
    "in place behind a sum": lambda net, x: net.inplace(net.act(net.n(net.c(x)) + x)),
    "two outputs at once": lambda net, x: (lambda a, b: net.act(a) - 2 * net.act(b))(
        net.n(net.c(x)), net.n(net.c(2 * x + 1))
    ),
    "one layer twice in a sum": lambda net, x: net.act(net.n(net.c(x)) + net.n(net.c(2 * x + 1))),
    "activated twice": lambda net, x: net.act(net.act(net.n(net.c(x)))),
    "in no_grad": in_no_grad,
    "activated in no_grad": activated_in_no_grad,
    "an alias that changes": alias,
    "keeps a shape": keeps_shape,
    "keeps an output": keeps_output,
    "keeps outputs": keeps_outputs,
    "a wider summand in place": narrower,
    "under autocast": under_autocast,
    "inside autocast": inside_autocast,
    "checkpoint": lambda net, x: checkpoint(
        lambda y: net.act(net.n(net.c(y)) + y), x, use_reentrant=False
    ).square(),
}


def everything(network, images):
    x = images.clone().requires_grad_()
    out = network(x)
    out.square().sum().backward()
    gradients = {name: p.grad for name, p in network.named_parameters()}
    return out.detach(), x.grad, gradients, dict(network.named_buffers())


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("activation", [nn.ReLU(), nn.LeakyReLU(0.25)], ids=str)
@pytest.mark.parametrize("layer", ["norm", "convolution"])
@pytest.mark.parametrize("way", WAYS)
def test_all_is_as_the_network_has_it(way, layer, activation, training):
    mine = Network(WAYS[way], layer, copy.deepcopy(activation)).train(training)
    mine.drop.eval()
    other = copy.deepcopy(mine)
    compute = everything
    try:
        want = compute(other, IMAGES)
    except RuntimeError as error:  # what cannot be trained so may still answer
        if "modified by an inplace operation" not in str(error):
            raise
        other = copy.deepcopy(mine)
        compute = torch.no_grad()(lambda network, images: (network(images), dict(network.named_buffers())))
        want = compute(other, IMAGES)
    with QuickLayers(mine).used():
        got = compute(mine, IMAGES)
    assert got[0].dtype == want[0].dtype
    torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-3)
    if hasattr(other, "pre"):
        pre, right = mine.pre, other.pre
        if isinstance(right, list):
            (pre,), (right,) = pre, right
        torch.testing.assert_close(pre + 0, right, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("layer", ["norm", "convolution"])
@pytest.mark.parametrize("place", ["add", "through", "n", "act"])
def test_taps_anywhere_read_what_they_read(place, layer):
    network = Network(WAYS["modules between"], layer, nn.ReLU())
    call = 0 if place == "act" else None
    read = []
    for mine in (copy.deepcopy(network), network):
        with QuickLayers(mine, norms=mine is network, winograd=mine is network).used():
            with Taps(mine, [Tap(place, call, (8, 8, 8), is_module=place == "act")]).record() as features:
                mine(IMAGES)
            read.append(features[0])
    torch.testing.assert_close(*read, rtol=1e-3, atol=1e-3)
    assert (read[0] < 0).any()


@pytest.mark.parametrize("layer", ["norm", "convolution"])
def test_a_hook_on_all_modules_sees_what_it_saw(layer):
    network = Network(lambda net, x: net.act(net.n(net.c(x)) + x), layer, nn.ReLU())
    quick, other = QuickLayers(network), copy.deepcopy(network)
    seen = []
    hook = nn.modules.module.register_module_forward_hook(lambda *args: seen.append(args[2].detach()))
    try:
        other(IMAGES)
        count = len(seen)
        with quick.used():
            network(IMAGES)
        assert QuickLayers(network).describe() == {}  # nothing is traced
    finally:
        hook.remove()
    torch.testing.assert_close(seen[count:], seen[:count], rtol=1e-3, atol=1e-3)


def test_two_networks_with_one_activation_at_once():
    shared = nn.LeakyReLU(0.25)
    networks = [Network(lambda net, x: net.act(net.n(net.c(x))), "norm", shared) for _ in range(2)]
    want = [copy.deepcopy(network)(IMAGES) for network in networks]
    first, second = map(QuickLayers, networks)
    with first.used(), second.used():
        got = [network(IMAGES) for network in networks]
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize("momentum", [np.float32(0.1), torch.tensor(0.1), 1.5, -0.1])
def test_momenta_that_torch_takes(momentum):
    network = nn.Sequential(nn.BatchNorm2d(8), nn.ReLU())
    network[0].momentum = momentum
    want = everything(copy.deepcopy(network), IMAGES)
    with QuickLayers(network).used():
        torch.testing.assert_close(everything(network, IMAGES), want, rtol=1e-4, atol=1e-4)


def test_a_forward_that_was_given_since_is_kept():
    network = nn.Sequential(nn.BatchNorm2d(8), nn.Sigmoid())
    quick = QuickLayers(network)
    network[0].forward = lambda x: x + 1
    with quick.used():
        torch.testing.assert_close(network(IMAGES), (IMAGES + 1).sigmoid())
    torch.testing.assert_close(network(IMAGES), (IMAGES + 1).sigmoid())


@pytest.mark.parametrize("images", [torch.zeros(0, 8, 8, 8), IMAGES[:, :4]], ids=["empty", "channels"])
def test_what_torch_refuses_or_takes(images):
    network = nn.Sequential(nn.BatchNorm2d(8), nn.ReLU())
    with QuickLayers(network).used():
        if len(images):
            with pytest.raises(RuntimeError):
                network(images)
        else:
            assert network(images).shape == images.shape
