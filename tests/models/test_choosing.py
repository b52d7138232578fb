import copy

import pytest
import torch
from torch import nn

from dfad_fast import backends
from dfad_fast.errors import UsageError
from dfad_fast.models import create_network
from dfad_fast.models.surgery import choosing
from dfad_fast.models.surgery.choosing import ChosenConvolutions, algorithms_of, choose_convolutions

pytestmark = pytest.mark.skipif(backends.extension is None, reason="no extension was built")

IMAGES = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True)
def _nothing_measured(monkeypatch):
    monkeypatch.setattr(choosing, "_measured", {})


@pytest.fixture
def network():
    torch.manual_seed(0)
    return create_network("resnet8-w32", (1, 8, 8), 10).eval()


def layers(network):
    return {name: m for name, m in network.named_modules() if isinstance(m, nn.Conv2d)}


def gradients(network, images):
    images = images.clone().requires_grad_()
    answer = network(images)
    answer.square().sum().backward()
    taken = [answer.detach(), images.grad, *(p.grad.clone() for p in network.parameters())]
    network.zero_grad()
    return taken


@pytest.mark.parametrize("algorithm", ["torch", "winograd", "direct", "tiled"])
def test_answers_and_gradients_are_torchs(network, algorithm):
    able = {name: algorithm for name, m in layers(network).items() if algorithm in algorithms_of(m)}
    assert able
    chosen = ChosenConvolutions(network, able)
    assert len(chosen) == (0 if algorithm == "torch" else len(able))
    want = gradients(copy.deepcopy(network).double(), IMAGES.double())
    with chosen.used():
        got = gradients(network, IMAGES)
    for mine, right in zip(got, want, strict=True):
        torch.testing.assert_close(mine.double(), right, rtol=1e-3, atol=1e-4 * right.abs().max().item())


@pytest.mark.parametrize(
    ("layer", "able"),
    [
        (nn.Conv2d(1, 8, 3, padding=1), "torch direct tiled"),
        (nn.Conv2d(32, 64, 3, padding="same"), "torch winograd direct tiled"),
        (nn.Conv2d(256, 256, 3, padding=1), "torch winograd"),
        (nn.Conv2d(8, 16, 3, 2, padding=1), "torch direct"),
        (nn.Conv2d(8, 16, 1, 2), "torch direct"),
        (nn.Conv2d(8, 16, 1, padding=1), "torch"),
        (nn.Conv2d(8, 16, 3), "torch"),
        (nn.Conv2d(8, 16, 3, 3, padding=1), "torch"),
        (nn.Conv2d(8, 16, 3, (1, 2), padding=1), "torch"),
        (nn.Conv2d(8, 16, (1, 3), padding=(0, 1)), "torch"),
        (nn.Conv2d(8, 16, 5, padding=2), "torch"),
        (nn.Conv2d(8, 16, 3, padding=1, groups=2), "torch"),
        (nn.Conv2d(8, 16, 3, padding=2, dilation=2), "torch"),
        (nn.Conv2d(8, 16, 3, padding=1, padding_mode="reflect"), "torch"),
        (nn.ConvTranspose2d(8, 16, 3, padding=1), ""),
    ],
    ids=str,
)
def test_what_can_compute_a_layer(layer, able):
    assert " ".join(algorithms_of(layer)) == able


@pytest.mark.parametrize("frozen", [False, True])
def test_the_quickest_is_chosen_once_and_nothing_is_left_behind(network, monkeypatch, frozen):
    slow = {"winograd": 3.0, "torch": 2.0, "tiled": 1.0, "direct": 1.5}
    now, measured = [0.0], []

    def by(algorithm, winograd):
        function = real(algorithm, winograd)

        def timed(convolution, x):
            now[0] += slow[algorithm]
            measured.append((algorithm, convolution.weight.requires_grad))
            return function(convolution, x)

        return timed

    real = choosing._by
    monkeypatch.setattr(choosing, "_by", by)
    monkeypatch.setattr(choosing.time, "perf_counter", lambda: now[0])
    choices = choose_convolutions(network, IMAGES, frozen)
    assert choices == {
        name: "tiled"
        if m.kernel_size == (3, 3) and m.stride == (1, 1) and m.out_channels <= 128
        else "direct"
        for name, m in layers(network).items()
    }
    assert {wanted for _, wanted in measured} == {not frozen}
    count = len(measured)
    assert choose_convolutions(network, IMAGES, frozen) == choices
    assert len(measured) == count
    assert not any(m._forward_pre_hooks for m in network.modules())
    assert all(p.grad is None for p in network.parameters())


def test_a_network_in_training_stays_as_it_was(network):
    trained = nn.Sequential(network.train(), nn.Dropout())
    before, random = copy.deepcopy(trained.state_dict()), torch.get_rng_state()
    choose_convolutions(trained, IMAGES)
    torch.testing.assert_close(trained.state_dict(), before, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), random)


def test_less_than_a_margin_is_no_reason(network, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(choosing.time, "perf_counter", lambda: now.append(now[-1] + 1) or now[-1])
    assert set(choose_convolutions(network, IMAGES).values()) == {"torch"}


def test_other_dtypes_stay_with_torch(network):
    assert set(choose_convolutions(network.double(), IMAGES.double()).values()) == {"torch"}


def test_the_same_choices_give_the_same_bits(network):
    choices = choose_convolutions(network, IMAGES)
    results = []
    for _ in range(2):
        with ChosenConvolutions(network, choices).used(), torch.no_grad():
            results.append(network(IMAGES))
    assert torch.equal(*results)


def test_frozen_weights_are_transformed_once_and_again_only_for_gradients(network, monkeypatch):
    made = []
    real = choosing.winograd_weight
    monkeypatch.setattr(choosing, "winograd_weight", lambda *a, **k: made.append(1) or real(*a, **k))
    able = {name: "winograd" for name, m in layers(network).items() if "winograd" in algorithms_of(m)}
    chosen = ChosenConvolutions(network, able, frozen=True)
    for images, count in ((IMAGES, 1), (IMAGES, 1), (IMAGES.clone().requires_grad_(), 2)):
        with chosen.used(), torch.set_grad_enabled(images.requires_grad):
            network(images)
        assert len(made) == count * len(able)


def test_nothing_stays_behind_even_after_an_error(network):
    with pytest.raises(ZeroDivisionError), ChosenConvolutions(network, {"stem.0": "direct"}).used():
        raise ZeroDivisionError
    assert all("forward" not in module.__dict__ for module in network.modules())


@pytest.mark.parametrize("name", ["stem.0", "nowhere"])
def test_choices_that_do_not_fit_are_refused(network, name):
    with pytest.raises(UsageError, match=f"{name} has no convolution by 'winograd'"):
        ChosenConvolutions(network, {name: "winograd"})


def test_an_image_without_a_batch_dimension():
    layer = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1))
    x = torch.randn(8, 6, 6)
    with ChosenConvolutions(layer, {"0": "tiled"}).used(), torch.no_grad():
        got = layer(x)
    torch.testing.assert_close(got, layer(x))
