import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dfad_fast.errors import UsageError
from dfad_fast.models import NETWORKS, create_network
from dfad_fast.models.reading.taps import Tap, Taps, find_taps, match_taps, named_taps
from dfad_fast.models.surgery.connectors import create_connector

IMAGES = torch.randn(2, 1, 8, 8)


class Functional(nn.Module):
    """A residual block and a head, with every activation a function call."""

    def __init__(self, inplace: bool = False):
        super().__init__()
        self.inplace = inplace
        self.conv1 = nn.Conv2d(1, 4, 3, padding=1)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        x = F.relu(self.conv1(x), inplace=self.inplace)
        self.residual_sum = self.conv2(x) + x
        kept = self.residual_sum.clone()
        x = self.residual_sum.relu_() if self.inplace else torch.relu(self.residual_sum)
        self.residual_sum = kept
        return self.head(x.mean((2, 3)))


class Gated(nn.Module):
    """Squeeze-and-excitation: a small activation between two large ones."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.relu = nn.ReLU()
        self.squeeze = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 2, 1), nn.ReLU(), nn.Conv2d(2, 4, 1)
        )
        self.last = nn.ReLU()
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        x = self.relu(self.conv(x))
        x = self.last(x * torch.sigmoid(self.squeeze(x)) - 0.1)
        return self.head(x.mean((2, 3)))


def read(network, taps, images=IMAGES):
    with Taps(network, taps).record() as features:
        network(images)
    return features


def test_resnet_taps_are_the_residual_sums_of_its_stages():
    network = create_network("resnet8-w32", (1, 8, 8), 10).eval()
    taps = find_taps(network, IMAGES)
    assert [str(tap) for tap in taps] == [f"stages.{i}.0.relu2#0" for i in range(3)]
    assert [tap.shape for tap in taps] == [(32, 8, 8), (64, 4, 4), (128, 2, 2)]
    sums = []
    for stage in network.stages:
        stage[0].relu2.register_forward_pre_hook(lambda _, inputs: sums.append(inputs[0]))
    for feature, expected in zip(read(network, taps), sums, strict=True):
        assert feature.min() < 0  # before the ReLU
        assert torch.equal(feature, expected)


def test_the_sums_with_shortcuts_without_parameters_are_tapped():
    taps = find_taps(create_network("resnet20-a", (1, 8, 8), 10).eval(), IMAGES)
    assert [str(tap) for tap in taps] == [f"layer{i}.2.relu2#0" for i in (1, 2, 3)]
    assert [tap.shape for tap in taps] == [(16, 8, 8), (32, 4, 4), (64, 2, 2)]


def test_lenet_taps_include_the_hidden_linear_layer():
    network = create_network("lenet5", (1, 32, 32), 10)
    taps = find_taps(network, torch.zeros(2, 1, 32, 32))
    assert [tap.shape for tap in taps] == [(6, 28, 28), (16, 10, 10), (84,)]


@pytest.mark.parametrize("name", NETWORKS)
def test_the_taps_of_a_network_are_pre_activations_of_ever_smaller_stages(name):
    side = 28 if name.startswith("lenet") else 40
    images = torch.randn(2, 1, side, side, requires_grad=True)
    network = create_network(name, (1, side, side), 10).eval()
    taps = find_taps(network, images)
    areas = [tap.size[0] * tap.size[1] for tap in taps]
    assert len(taps) >= 3
    assert areas == sorted(set(areas), reverse=True)
    for tap, feature in zip(taps, read(network, taps, images), strict=True):
        assert feature.shape == (2, *tap.shape)
        assert feature.min() < 0 < feature.max()
        (gradient,) = torch.autograd.grad(feature.square().sum(), images, retain_graph=True)
        assert gradient.abs().sum() > 0


def test_wide_resnet_taps_are_its_stages_after_the_next_batch_norm():
    network = create_network("wrn-16-2", (1, 8, 8), 10).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.bias)  # or the norms would be next to nothing
    taps = find_taps(network, IMAGES)
    assert [str(tap) for tap in taps] == ["stages.1.0.relu1#0", "stages.2.0.relu1#0", "relu#0"]
    x, expected = network.stem(IMAGES), []
    norms = [network.stages[1][0].bn1, network.stages[2][0].bn1, network.bn]
    for stage, norm in zip(network.stages, norms, strict=True):
        x = stage(x)
        expected.append(norm(x))
    for feature, right in zip(read(network, taps), expected, strict=True):
        assert torch.equal(feature, right)


def test_linear_bottlenecks_are_tapped_at_their_ends_and_not_where_they_are_wide():
    network = create_network("mobilenet-v2", (1, 16, 16), 10).eval()
    taps = find_taps(network, torch.zeros(2, 1, 16, 16))
    assert [str(tap) for tap in taps] == ["blocks.2", "blocks.5", "blocks.12", "head.2#0"]
    assert [tap.shape[0] for tap in taps] == [24, 32, 96, 1280]


class ChannelsLast(nn.Module):
    """Residual blocks of linear layers on [B, H, W, C], as in Swin; with ``back``, on [B, C, H, W], as in ConvNeXt."""

    class Block(nn.Module):
        def __init__(self, width, back):
            super().__init__()
            self.back = back
            self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

        def forward(self, x):
            if self.back:
                return x + self.mlp(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
            return x + self.mlp(x)

    def __init__(self, back):
        super().__init__()
        self.back = back
        self.stem = nn.Conv2d(1, 6, 1)
        self.first = nn.Sequential(self.Block(6, back), self.Block(6, back))
        self.down = nn.Conv2d(6, 10, 2, stride=2) if back else nn.Linear(24, 10)
        self.second = self.Block(10, back)
        self.head = nn.Linear(10, 3)

    def forward(self, x):
        x = self.stem(x)
        if self.back:
            return self.head(self.second(self.down(self.first(x))).mean((2, 3)))
        x = self.first(x.permute(0, 2, 3, 1))
        x = x.unfold(1, 2, 2).unfold(2, 2, 2).flatten(3)
        return self.head(self.second(self.down(x)).mean((1, 2)))


@pytest.mark.parametrize("back", [False, True])
def test_features_with_their_channels_last_are_read_with_them_first(back):
    network = ChannelsLast(back)
    taps = find_taps(network, IMAGES)
    assert [(str(tap), tap.shape) for tap in taps] == [("first", (6, 8, 8)), ("second", (10, 4, 4))]
    named = named_taps(network, IMAGES, ["first.1", "first.1.mlp.1"])
    assert [tap.shape for tap in named] == [(6, 8, 8), (12, 8, 8)]
    outputs = []
    network.first.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    feature, _ = read(network, taps)
    assert torch.equal(feature, outputs[0] if back else outputs[0].permute(0, 3, 1, 2))
    inside = read(network, named)[1]
    assert inside.shape == (2, 12, 8, 8)


def test_pooling_after_a_linear_end_makes_no_stage():
    class Pool(nn.Module):
        def __init__(self):
            super().__init__()
            self.pool = nn.AdaptiveAvgPool2d(1)

        def forward(self, x):
            return self.pool(x)

    body = nn.Sequential(nn.Conv2d(1, 4, 1), nn.ReLU(), nn.Conv2d(4, 5, 1))
    network = nn.Sequential(body, Pool(), nn.Flatten(), nn.Linear(5, 3))
    assert [(str(tap), tap.shape) for tap in find_taps(network, IMAGES)] == [("0", (5, 8, 8))]


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("mobilenet_v2", [16, 24, 32, 96, 1280]),
        ("densenet121", [64, 256, 512, 1024, 1024]),
        ("efficientnet_b0", [16, 24, 40, 112, 1280]),
        ("convnext_tiny", [96, 192, 384, 768]),
        ("swin_t", [96, 192, 384, 768]),
    ],
)
def test_stages_of_torchvisions_networks_are_found(name, channels):
    network = pytest.importorskip("torchvision").models.get_model(name, weights=None).eval()
    images = torch.randn(2, 3, 64, 64)
    taps = find_taps(network, images)
    sides = [32, 16, 8, 4, 2][-len(channels) :]
    expected = [(wide, side, side) for wide, side in zip(channels, sides, strict=True)]
    assert [tap.shape for tap in taps] == expected
    with torch.no_grad():
        assert [tuple(feature.shape[1:]) for feature in read(network, taps, images)] == expected


def test_networks_of_different_widths_meet_through_connectors():
    teacher, student = (
        create_network("resnet20", (1, 16, 16), 10),
        create_network("wrn-16-2", (1, 16, 16), 10),
    )
    images = torch.randn(2, 1, 16, 16)
    pairs = match_taps(find_taps(teacher, images), find_taps(student, images))
    assert [(t.shape, s.shape) for t, s in pairs] == [
        ((16, 16, 16), (32, 16, 16)),
        ((32, 8, 8), (64, 8, 8)),
        ((64, 4, 4), (128, 4, 4)),
    ]
    teachers, students = (
        read(teacher, [t for t, _ in pairs], images),
        read(student, [s for _, s in pairs], images),
    )
    for (t, s), wanted, given in zip(pairs, teachers, students, strict=True):
        assert create_connector(s, t)(given).shape == wanted.shape


@pytest.mark.parametrize("inplace", [False, True])
def test_activations_that_are_function_calls_are_tapped(inplace):
    network = Functional(inplace)
    taps = find_taps(network, IMAGES)
    assert [str(tap) for tap in taps] == ["#1"]
    (feature,) = read(network, taps)
    assert torch.equal(feature, network.residual_sum)


def test_an_activation_in_place_does_not_corrupt_its_tap():
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(144, 3))
    (feature,) = read(network, find_taps(network, IMAGES))
    assert torch.equal(feature, network[0](IMAGES))
    assert feature.min() < 0
    feature.sum().backward()
    assert network[0].weight.grad.abs().sum() > 0


def test_a_gate_ends_no_stage():
    taps = find_taps(Gated(), IMAGES)
    assert [str(tap) for tap in taps] == ["last#0"]


def test_a_module_used_twice_is_told_apart_by_its_calls():
    relu = nn.ReLU()
    network = nn.Sequential(nn.Conv2d(1, 4, 3), relu, nn.Conv2d(4, 4, 3), relu)
    first, second = named_taps(network, IMAGES, ["1#0", "1#1"])
    assert (first.shape, second.shape) == ((4, 6, 6), (4, 4, 4))
    a, b = read(network, [first, second])
    assert torch.equal(a, network[0](IMAGES))
    assert torch.equal(b, network[2](network[0](IMAGES).relu()))


def test_a_bare_path_is_an_activations_input_and_any_other_modules_output():
    network = create_network("resnet8-w32", (1, 8, 8), 10).eval()
    at_relu, at_stage = named_taps(network, IMAGES, ["stages.0.0.relu2", "stages.0"])
    before, after = read(network, [at_relu, at_stage])
    assert torch.equal(before.relu(), after)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("stages.9", "did you mean"),
        ("stages.0.0.relu2#5", "1 activations run in"),
        ("stages.0.0.relu2#x", "1 activations run in"),
        ("stages.0.0.conv1#0", "0 activations run in"),
    ],
)
def test_a_tap_that_is_not_there_is_refused(name, message):
    with pytest.raises(UsageError, match=message):
        named_taps(create_network("resnet8-w32", (1, 8, 8), 10), IMAGES, [name])


def test_an_activation_call_is_told_apart_from_those_of_children():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1))
            self.head = nn.Linear(4, 3)

        def forward(self, x):
            self.before = self.body(x) - 0.1
            return self.head(F.relu(self.before).mean((2, 3)))

    network = Mixed()
    taps = find_taps(network, IMAGES)
    assert [str(tap) for tap in taps] == ["#0"]
    (feature,) = read(network, taps)
    assert torch.equal(feature, network.before)


def test_an_output_tap_is_not_corrupted_by_an_activation_in_place():
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(144, 3))
    (feature,) = read(network, named_taps(network, IMAGES, ["0"]))
    assert torch.equal(feature, network[0](IMAGES))
    assert feature.min() < 0


def test_the_start_of_the_next_bottleneck_does_not_end_a_stage():
    """Its first activation still runs at the full size, as in torchvision's ResNet-50."""

    class Bottleneck(nn.Module):
        def __init__(self, stride):
            super().__init__()
            self.reduce, self.spatial = nn.Conv2d(4, 2, 1), nn.Conv2d(2, 4, 3, stride, padding=1)
            self.relu = nn.ReLU(inplace=True)
            self.shortcut = nn.Conv2d(4, 4, 1, stride)

        def forward(self, x):
            return self.relu(self.spatial(self.relu(self.reduce(x))) + self.shortcut(x))

    network = nn.Sequential(nn.Conv2d(1, 4, 1), Bottleneck(1), Bottleneck(2), nn.Flatten(), nn.Linear(64, 3))
    taps = find_taps(network, IMAGES)
    assert [(str(tap), tap.shape) for tap in taps] == [("1.relu#1", (4, 8, 8)), ("2.relu#1", (4, 4, 4))]


def test_a_tap_named_twice_is_refused():
    network = create_network("resnet8-w32", (1, 8, 8), 10)
    with pytest.raises(UsageError, match="named twice"):
        named_taps(network, IMAGES, ["stages.0.0.relu2", "stages.0.0.relu2#0"])


def test_hooks_are_gone_after_recording_and_after_a_failure():
    network = create_network("resnet8-w32", (1, 8, 8), 10)
    taps = Taps(network, find_taps(network, IMAGES))
    with pytest.raises(RuntimeError), taps.record():
        network(torch.zeros(2, 5, 8, 8))
    with taps.record():
        network(IMAGES)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())
    assert torch.overrides._get_current_function_mode_stack() == []


def test_a_failure_inside_a_tapped_module_leaves_no_mode_behind():
    class Fails(nn.Module):
        def forward(self, x):
            x = F.relu(x)
            if self.training:
                raise ValueError("on purpose")
            return x

    network = Fails().eval()
    taps = Taps(network, find_taps(network, IMAGES))
    network.train()
    with pytest.raises(ValueError, match="on purpose"), taps.record():
        network(IMAGES)
    assert torch.overrides._get_current_function_mode_stack() == []


def test_taps_are_matched_by_order_and_size():
    def tap(path, *shape):
        return Tap(path, 0, shape)

    teacher = [tap("a", 8, 16, 16), tap("b", 8, 8, 8), tap("c", 8, 4, 4), tap("d", 8)]
    student = [tap("x", 4, 16, 16), tap("y", 4, 4, 4), tap("z", 4, 1, 1), tap("w", 4)]
    assert [(t.path, s.path) for t, s in match_taps(teacher, student)] == [("a", "x"), ("c", "y"), ("d", "w")]


def test_connectors_map_widths_and_are_nothing_where_widths_agree():
    narrow, wide = Tap("s", 0, (4, 5, 5)), Tap("t", 0, (6, 5, 5))
    assert isinstance(create_connector(wide, wide), nn.Identity)
    connector = create_connector(narrow, wide)
    assert connector(torch.randn(3, 4, 5, 5)).shape == (3, 6, 5, 5)
    assert [name for name, _ in connector.named_parameters()] == ["0.weight", "1.weight", "1.bias"]
    flat = create_connector(Tap("s", 0, (4,)), Tap("t", 0, (6,)))
    assert flat(torch.randn(3, 4)).shape == (3, 6)


@pytest.mark.parametrize("channels", [3, 15, 16, 24])
@pytest.mark.parametrize("training", [True, False])
def test_a_connectors_norm_is_the_batch_norm_in_any_layout(channels, training):
    torch.manual_seed(0)
    connector = create_connector(Tap("", 0, (2, 5, 5)), Tap("", 0, (channels, 5, 5))).train(training)
    plain = nn.Sequential(nn.Conv2d(2, channels, 1, bias=False), nn.BatchNorm2d(channels)).train(training)
    plain.load_state_dict(connector.state_dict())
    x = torch.randn(6, 2, 5, 5).to(memory_format=torch.channels_last)
    got, want = connector(x), plain(x)
    torch.testing.assert_close(got, want)
    assert got.stride() == want.stride()
    grad = torch.randn_like(want)
    for a, b in zip(
        torch.autograd.grad(got, list(connector.parameters()), grad),
        torch.autograd.grad(want, list(plain.parameters()), grad),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(connector.state_dict(), plain.state_dict())
