import copy
from contextlib import nullcontext

import pytest
import torch
from torch import nn

from dfad_fast import backends
from dfad_fast.models import create_network
from dfad_fast.models.surgery import convolutions
from dfad_fast.models.surgery.convolutions import quickest
from dfad_fast.models.surgery.quick_layers import QuickLayers

pytestmark = pytest.mark.skipif(backends.extension is None, reason="no extension was built")


def quick_convolutions(network, frozen=False, **options):
    return QuickLayers(network, frozen=frozen, norms=False, **options)


@pytest.fixture
def network():
    torch.manual_seed(0)
    made = create_network("resnet8-w32", (1, 8, 8), 10)
    made.train()
    with torch.no_grad():
        made(torch.randn(16, 1, 8, 8))
    return made.eval()


@pytest.fixture
def calls(monkeypatch):
    """The algorithms of the package's ops, call by call; "weight" where weights were transformed beforehand."""
    seen = []

    def watch(name, note):
        real = getattr(convolutions, name)

        def counted(*args, **kwargs):
            seen.append(note(kwargs))
            return real(*args, **kwargs)

        monkeypatch.setattr(convolutions, name, counted)

    watch("winograd_conv2d", lambda _: "winograd")
    watch("winograd_weight", lambda _: "weight")
    watch("narrow_conv2d", lambda kwargs: "tiled" if kwargs["tile"] else "direct")
    return seen


IMAGES = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def convolution(channels_in, channels_out, kernel=3, stride=1, **options):
    return nn.Conv2d(channels_in, channels_out, kernel, stride, padding=kernel // 2, **options)


@pytest.mark.parametrize("frozen", [False, True])
def test_answers_and_gradients_are_torchs(network, calls, frozen):
    quick = quick_convolutions(network, frozen)
    images = IMAGES.clone().requires_grad_()
    exact = copy.deepcopy(network).double()
    expected = exact(IMAGES.double().requires_grad_())
    with quick.used():
        answer = network(images)
    torch.testing.assert_close(answer.double(), expected, rtol=1e-4, atol=1e-5)
    assert sorted(set(calls) - {"weight"}) == ["direct", "tiled", "winograd"]
    assert quick.describe() == {"convolutions": "2 direct, 2 tiled, 4 torch, 1 winograd"}
    leaves = [images] if frozen else [images, *network.parameters()]
    answer.square().sum().backward()
    other = IMAGES.double().requires_grad_()
    exact(other).square().sum().backward()
    true = [other] if frozen else [other, *exact.parameters()]
    for mine, right in zip(leaves, true, strict=True):
        scale = right.grad.abs().max().item()
        torch.testing.assert_close(mine.grad.double(), right.grad, rtol=1e-3, atol=1e-4 * scale)


@pytest.mark.parametrize(
    ("layer", "side", "forward", "backward"),
    [
        (convolution(1, 8), 28, "direct", "direct"),
        (convolution(3, 16), 32, "torch", "direct"),
        (convolution(3, 96), 32, "torch", "torch"),
        (convolution(8, 8), 28, "tiled", "tiled"),
        (convolution(24, 144), 16, "tiled", "tiled"),
        (convolution(32, 32), 7, "tiled", "tiled"),
        (convolution(64, 64), 8, "winograd", "winograd"),
        (convolution(64, 64), 16, "tiled", "tiled"),
        (convolution(128, 128), 16, "winograd", "winograd"),
        (convolution(128, 128), 2, "torch", "torch"),
        (convolution(16, 32, stride=2), 16, "torch", "direct"),
        (convolution(32, 64, stride=2), 16, "torch", "torch"),
        (convolution(32, 64, kernel=1, stride=2), 16, "torch", "direct"),
        (convolution(64, 128, kernel=1, stride=2), 16, "torch", "torch"),
    ],
    ids=str,
)
def test_the_rule(calls, layer, side, forward, backward):
    assert quickest(layer, side, side, backward=False) == forward
    assert quickest(layer, side, side, backward=True) == backward
    images = torch.randn(2, layer.in_channels, side, side)
    with quick_convolutions(layer).used(), torch.no_grad():
        layer(images)
    with quick_convolutions(layer).used():
        layer(images)
        layer(images.requires_grad_())
    assert calls == [algorithm for algorithm in (forward, forward, backward) if algorithm != "torch"]


@pytest.mark.parametrize(
    ("wanted", "algorithms"),
    [
        ({"direct": False}, {"tiled", "winograd"}),
        ({"winograd": False}, {"direct"}),
        ({"winograd": False, "direct": False}, set()),
    ],
)
def test_each_kind_alone(network, calls, wanted, algorithms):
    with quick_convolutions(network, **wanted).used():
        network(IMAGES.clone().requires_grad_())
    assert set(calls) == algorithms


class Behind(nn.Module):
    """A convolution, what a folded norm leaves, a sum or none, an activation."""

    def __init__(self, channels, added, activation):
        super().__init__()
        self.convolution, self.folded, self.added = convolution(channels, channels), nn.Identity(), added
        self.before, self.activation = nn.Conv2d(channels, channels, 1), activation

    def forward(self, x):
        y = self.folded(self.convolution(self.before(x)))
        return self.activation(y + x if self.added else y)


WIDTHS = {4: "direct", 8: "tiled", 48: "winograd", 80: "torch"}


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.LeakyReLU(0.25, inplace=True)], ids=str)
@pytest.mark.parametrize("added", [False, True])
@pytest.mark.parametrize("channels", WIDTHS)
def test_a_sum_and_an_activation_go_with_the_convolution(calls, channels, added, activation):
    network, side = Behind(channels, added, activation), 2 if channels == 80 else 8
    exact = copy.deepcopy(network).double()
    quick = quick_convolutions(network, frozen=True)
    x = torch.randn(3, channels, side, side, requires_grad=True)
    with quick.used():
        out = network(x)
        (gradient,) = torch.autograd.grad(out.square().sum(), x)
    y = x.detach().double().requires_grad_()
    expected = exact(y)
    (right,) = torch.autograd.grad(expected.square().sum(), y)
    torch.testing.assert_close(out.double(), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(gradient.double(), right, rtol=1e-3, atol=1e-3)
    count = f"; {int(added)} with a sum, 1 with an activation"
    assert quick.describe() == {"convolutions": f"1 {WIDTHS[channels]}" + count}
    with quick.used(), torch.no_grad():
        torch.testing.assert_close(network(x.detach()).double(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("place", ["convolution", "folded", "activation"])
def test_hooks_behind_a_convolution_see_what_they_saw(place):
    network, seen = Behind(8, True, nn.ReLU()), []
    if place == "activation":
        network.activation.register_forward_pre_hook(lambda _, args: seen.append(args[0].clone()))
    else:
        network.get_submodule(place).register_forward_hook(lambda *args: seen.append(args[2].clone()))
    x = torch.randn(3, 8, 8, 8)
    expected = network(x)
    with quick_convolutions(network).used():
        torch.testing.assert_close(network(x), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(seen[1], seen[0], rtol=1e-4, atol=1e-4)
    assert (seen[1] < 0).any()


def test_each_layer_by_itself(calls):
    network = Behind(8, True, nn.ReLU())
    quick = quick_convolutions(network, alone=True)
    with quick.used():
        network(torch.randn(3, 8, 8, 8))
    assert quick.describe() == {"convolutions": "1 tiled"}


def test_shortcuts_that_are_slices_and_padding_take_what_the_kernels_return(calls):
    images = torch.randn(2, 1, 9, 7, generator=torch.Generator().manual_seed(1), requires_grad=True)
    network = create_network("resnet20-a", (1, 9, 7), 10).eval()
    results = []
    for context in (nullcontext(), quick_convolutions(network, frozen=True).used()):
        with context:
            answer = network(images)
        results += [answer, *torch.autograd.grad(answer.square().sum(), images)]
    assert {"direct", "tiled"} <= set(calls)
    torch.testing.assert_close(results[2:], results[:2], rtol=1e-3, atol=1e-3 * results[1].abs().max().item())


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("channels", [16, 48])
def test_networks_that_name_their_layers_argument(calls, frozen, channels):
    layer = convolution(channels, channels)
    x = torch.randn(2, channels, 8, 8)
    expected = layer(x)
    with quick_convolutions(layer, frozen).used():
        torch.testing.assert_close(layer(input=x), expected, rtol=1e-4, atol=1e-4)
    assert calls[-1:] == ["tiled" if channels == 16 else "winograd"]


def test_frozen_weights_are_transformed_once_and_again_only_for_gradients(network, calls):
    quick = quick_convolutions(network, frozen=True)
    for _ in range(2):
        with quick.used(), torch.no_grad():
            network(IMAGES)
    wide = calls.count("weight")
    assert calls.count("winograd") == 2 * wide > 0
    for _ in range(2):
        with quick.used():
            network(IMAGES.clone().requires_grad_())
    assert calls.count("weight") == 2 * wide


def test_trained_weights_are_read_at_each_call(network):
    with quick_convolutions(network).used(), torch.no_grad():
        before = network(IMAGES)
        for parameter in network.parameters():
            parameter.mul_(1.5)
        after = network(IMAGES)
    with torch.no_grad():
        torch.testing.assert_close(after, network(IMAGES), rtol=1e-4, atol=1e-4 * after.abs().max().item())
    assert not torch.allclose(before, after)


def test_nothing_stays_behind_even_after_an_error(network, calls):
    with pytest.raises(ZeroDivisionError), quick_convolutions(network).used():
        raise ZeroDivisionError
    network(IMAGES)
    assert calls == []
    assert all("forward" not in module.__dict__ for module in network.modules())
    copy.deepcopy(network)


def test_hooks_see_what_they_saw(network):
    shapes = []
    network.stages[0][0].conv2.register_forward_hook(lambda m, args, out: shapes.append(tuple(out.shape)))
    with quick_convolutions(network).used():
        network(IMAGES)
    assert shapes == [(4, 32, 8, 8)]


class Own(nn.Conv2d):
    def forward(self, x):
        return super().forward(x) + 1


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(32, 32, 3),
        nn.Conv2d(16, 32, 3, padding=1, stride=3),
        nn.Conv2d(16, 32, 3, padding=1, stride=(1, 2)),
        nn.Conv2d(32, 32, 3, padding=1, groups=2),
        nn.Conv2d(32, 32, 3, padding=2, dilation=2),
        nn.Conv2d(32, 32, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(32, 32, 5, padding=2),
        nn.Conv2d(32, 32, (1, 3), padding=(0, 1)),
        nn.Conv2d(16, 32, 1, stride=2, padding=1),
        nn.Conv2d(16, 32, 1),
        Own(32, 32, 3, padding=1),
    ],
    ids=str,
)
def test_other_convolutions_are_left_alone(layer, calls):
    images = torch.randn(2, layer.in_channels, 8, 8, requires_grad=True)
    expected = layer(images)
    with quick_convolutions(nn.Sequential(layer)).used():
        assert torch.equal(layer(images), expected)
    assert calls == []


def test_one_that_computes_in_its_own_way(network, calls):
    layer = convolution(32, 32)
    layer.forward = lambda x: x
    with quick_convolutions(layer).used():
        assert layer(IMAGES) is IMAGES
    assert layer(IMAGES) is IMAGES


@pytest.mark.parametrize("channels", [16, 48])
def test_images_without_a_batch_dimension(calls, channels):
    layer = nn.Sequential(nn.Conv2d(channels, channels, 3, padding="same"))
    x = torch.randn(channels, 6, 6)
    for frozen in (False, True):
        with quick_convolutions(layer, frozen).used(), torch.no_grad():
            torch.testing.assert_close(layer(x), layer[0](x))
    assert calls == []
