import copy
from contextlib import nullcontext

import pytest
import torch
from torch import nn

from dfad_fast import backends
from dfad_fast.models import create_network
from dfad_fast.models.surgery import convolutions
from dfad_fast.models.surgery.convolutions import WinogradConvolutions

pytestmark = pytest.mark.skipif(backends.extension is None, reason="no extension was built")


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
    """How often the network convolved by Winograd, and how often weights were transformed beforehand."""
    seen = {"winograd_conv2d": 0, "winograd_weight": 0}
    for name in seen:
        real = getattr(convolutions, name)

        def counted(*args, real=real, name=name, **kwargs):
            seen[name] += 1
            return real(*args, **kwargs)

        monkeypatch.setattr(convolutions, name, counted)
    return seen


IMAGES = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("frozen", [False, True])
def test_answers_and_gradients_are_the_direct_ones(network, calls, frozen):
    winograd = WinogradConvolutions(network, frozen)
    assert len(winograd) == 4  # not the stem of one channel, nor those of stride 2
    images = IMAGES.clone().requires_grad_()
    exact = copy.deepcopy(network).double()
    expected = exact(IMAGES.double().requires_grad_())
    with winograd.used():
        answer = network(images)
    torch.testing.assert_close(answer.double(), expected, rtol=1e-4, atol=1e-5)
    assert calls["winograd_conv2d"] == 4
    leaves = [images] if frozen else [images, *network.parameters()]
    answer.square().sum().backward()
    other = IMAGES.double().requires_grad_()
    exact(other).square().sum().backward()
    true = [other] if frozen else [other, *exact.parameters()]
    for mine, right in zip(leaves, true, strict=True):
        scale = right.grad.abs().max().item()
        torch.testing.assert_close(mine.grad.double(), right.grad, rtol=1e-3, atol=1e-4 * scale)


def test_shortcuts_that_are_slices_and_padding_take_what_winograd_returns():
    images = torch.randn(2, 1, 9, 7, generator=torch.Generator().manual_seed(1), requires_grad=True)
    network = create_network("resnet20-a", (1, 9, 7), 10).eval()
    winograd = WinogradConvolutions(network, frozen=True)
    assert len(winograd) == 16  # not the stem of one channel, nor those of stride 2
    results = []
    for context in (nullcontext(), winograd.used()):
        with context:
            answer = network(images)
        results += [answer, *torch.autograd.grad(answer.square().sum(), images)]
    torch.testing.assert_close(results[2:], results[:2], rtol=1e-3, atol=1e-3 * results[1].abs().max().item())


@pytest.mark.parametrize("frozen", [False, True])
def test_networks_that_name_their_layers_argument(calls, frozen):
    layer = nn.Conv2d(32, 32, 3, padding=1)
    x = torch.randn(2, 32, 8, 8)
    expected = layer(x)
    with WinogradConvolutions(layer, frozen).used():
        torch.testing.assert_close(layer(input=x), expected, rtol=1e-4, atol=1e-4)
    assert calls["winograd_conv2d"] == 1


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("side", [8, 2])
def test_few_channels_go_by_the_op_for_them(monkeypatch, frozen, side):
    tiles = []
    real = convolutions.narrow_conv2d
    monkeypatch.setattr(
        convolutions,
        "narrow_conv2d",
        lambda *args, tile: tiles.append(tile) or real(*args, tile=tile),
    )
    network = nn.Sequential(
        nn.Conv2d(7, 8, 3, padding=1), nn.Conv2d(8, 40, 3, padding=1), nn.Conv2d(40, 32, 3, padding=1)
    )
    winograd = WinogradConvolutions(network, frozen)
    assert len(winograd) == 2  # not the first, which has 7 channels
    images = torch.randn(2, 7, side, side)
    expected = network(images)
    with winograd.used():
        torch.testing.assert_close(network(images), expected, rtol=1e-4, atol=1e-4)
    assert tiles == [4 if side > 2 else 0]


def test_frozen_weights_are_transformed_once_and_again_only_for_gradients(network, calls):
    winograd = WinogradConvolutions(network, frozen=True)
    for _ in range(2):
        with winograd.used(), torch.no_grad():
            network(IMAGES)
    assert calls["winograd_weight"] == 4
    for _ in range(2):
        with winograd.used():
            network(IMAGES.clone().requires_grad_())
    assert calls["winograd_weight"] == 8


def test_trained_weights_are_read_at_each_call(network):
    winograd = WinogradConvolutions(network)
    with winograd.used(), torch.no_grad():
        before = network(IMAGES)
        for parameter in network.parameters():
            parameter.mul_(1.5)
        after = network(IMAGES)
    with torch.no_grad():
        torch.testing.assert_close(after, network(IMAGES), rtol=1e-4, atol=1e-4 * after.abs().max().item())
    assert not torch.allclose(before, after)


def test_nothing_stays_behind_even_after_an_error(network, calls):
    winograd = WinogradConvolutions(network)
    with pytest.raises(ZeroDivisionError), winograd.used():
        raise ZeroDivisionError
    network(IMAGES)
    assert calls["winograd_conv2d"] == 0
    assert all("forward" not in module.__dict__ for module in network.modules())
    copy.deepcopy(network)


def test_hooks_see_what_they_saw(network):
    shapes = []
    network.stages[0][0].conv2.register_forward_hook(lambda m, args, out: shapes.append(tuple(out.shape)))
    with WinogradConvolutions(network).used():
        network(IMAGES)
    assert shapes == [(4, 32, 8, 8)]


class Own(nn.Conv2d):
    def forward(self, x):
        return super().forward(x) + 1


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(32, 32, 3),
        nn.Conv2d(32, 32, 3, padding=1, stride=2),
        nn.Conv2d(32, 32, 3, padding=1, groups=2),
        nn.Conv2d(32, 32, 3, padding=2, dilation=2),
        nn.Conv2d(32, 32, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(32, 32, 5, padding=1),
        nn.Conv2d(7, 32, 3, padding=1),
        Own(32, 32, 3, padding=1),
    ],
    ids=str,
)
def test_other_convolutions_are_left_alone(layer):
    assert len(WinogradConvolutions(nn.Sequential(layer))) == 0


def test_two_pixels_and_one_image_without_a_batch_dimension(calls):
    layer = nn.Sequential(nn.Conv2d(32, 32, 3, padding="same"))
    for shape in ((3, 32, 2, 2), (32, 6, 6)):
        x = torch.randn(shape)
        for frozen in (False, True):
            with WinogradConvolutions(layer, frozen).used(), torch.no_grad():
                torch.testing.assert_close(layer(x), layer[0](x), rtol=1e-4, atol=1e-5)
    assert calls["winograd_conv2d"] == 4
