"""A student that starts from its teacher's weights: exact where it can be exact, and told where it is not."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dfad_fast.errors import UsageError
from dfad_fast.models.starting.choosing import _by_gain, _by_variance
from dfad_fast.models.starting.following import IMAGES, follow
from dfad_fast.models.starting.settling import settle_statistics, was_trained
from dfad_fast.models.starting.start import Ways, start_from_teacher
from dfad_fast.models.zoo.mobilenet import InvertedResidual
from dfad_fast.models.zoo.resnet import ResNet
from dfad_fast.models.zoo.resnet_plain import PaddedBlock
from dfad_fast.models.zoo.wide_resnet import PreActivationBlock

SHAPE = (2, 8, 8)
CLASSES = 5


def batches(count=3, size=16):
    source = torch.Generator().manual_seed(0)
    return [torch.randn(size, *SHAPE, generator=source) for _ in range(count)]


def unit(channels_in, channels_out, **options):
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False, **options),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
    )


def residual(width, depths=(1, 2)):
    return ResNet(SHAPE, CLASSES, depths, [width * 2**i for i in range(len(depths))])


class PreActivation(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.stem = nn.Conv2d(2, width, 3, padding=1, bias=False)
        self.blocks = nn.Sequential(
            PreActivationBlock(width, width, 1), PreActivationBlock(width, 2 * width, 2)
        )
        self.bn = nn.BatchNorm2d(2 * width)
        self.classifier = nn.Linear(2 * width, CLASSES)

    def forward(self, x):
        return self.classifier(F.relu(self.bn(self.blocks(self.stem(x)))).mean((2, 3)))


class Padded(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.stem = unit(2, width)
        self.blocks = nn.Sequential(PaddedBlock(width, width, 1), PaddedBlock(width, 2 * width, 2))
        self.classifier = nn.Linear(2 * width, CLASSES)

    def forward(self, x):
        return self.classifier(self.blocks(self.stem(x)).mean((2, 3)))


class Inverted(nn.Module):
    """With depthwise convolutions and a gate (squeeze and excitation)."""

    def __init__(self, width):
        super().__init__()
        self.stem = unit(2, width)
        self.blocks = nn.Sequential(
            InvertedResidual(width, width, 2, 1), InvertedResidual(width, width, 2, 2)
        )
        self.squeeze, self.excite = nn.Conv2d(width, width, 1), nn.Conv2d(width, width, 1)
        self.classifier = nn.Linear(width, CLASSES)

    def forward(self, x):
        x = self.blocks(self.stem(x))
        gate = torch.sigmoid(self.excite(F.relu(self.squeeze(x.mean((2, 3), keepdim=True)))))
        return self.classifier((x * gate).mean((2, 3)))


def flattened(width):
    """With linear layers on a flattened map."""
    return nn.Sequential(
        unit(2, width),
        nn.MaxPool2d(2),
        unit(width, 2 * width),
        nn.Flatten(),
        nn.Linear(2 * width * 16, 3 * width),
        nn.ReLU(),
        nn.Linear(3 * width, CLASSES),
    )


class Dense(nn.Module):
    """With each map beside the next one."""

    def __init__(self, width):
        super().__init__()
        self.first, self.second = unit(2, width), unit(width, width)
        self.third = unit(2 * width, width)
        self.classifier = nn.Linear(3 * width, CLASSES)

    def forward(self, x):
        x = self.first(x)
        x = torch.cat((x, self.second(x)), 1)
        return self.classifier(torch.cat((self.third(x), x), 1).mean((2, 3)))


class Scaled(nn.Module):
    """With linear layers over the last dimension, and scales that are vectors, as in ConvNeXt."""

    def __init__(self, width):
        super().__init__()
        self.stem, self.depthwise = nn.Conv2d(2, width, 2, 2), nn.Conv2d(width, width, 3, 1, 1, groups=width)
        self.norm = nn.BatchNorm2d(width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.scale, self.shift = nn.Parameter(torch.randn(width)), nn.Parameter(torch.randn(width))
        self.classifier = nn.Linear(width, CLASSES)

    def forward(self, x):
        x = self.stem(x)
        own = self.norm(self.depthwise(x)).permute(0, 2, 3, 1)
        own = self.narrow(F.gelu(self.wide(own))).permute(0, 3, 1, 2)
        x = x + own * self.scale.view(1, -1, 1, 1)
        return self.classifier((x + self.shift[:, None, None]).mean((2, 3)))


class Attentive(nn.Module):
    """Tokens with positions of their own, which attend to each other."""

    def __init__(self, width):
        super().__init__()
        self.stem = nn.Conv2d(2, width, 2, 2)
        self.norm = nn.BatchNorm1d(width)
        self.positions = nn.Parameter(torch.randn(1, 16, width))
        self.register_buffer("token", torch.zeros(1, 1, 1))
        self.three, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.classifier = nn.Linear(width, CLASSES)

    def forward(self, x):
        x = self.stem(x).flatten(2).transpose(1, 2) + self.positions
        # One token of which nothing is known, that something is added to later.
        x = torch.cat((self.token.expand(len(x), 1, x.shape[2]), x), 1)
        query, key, value = self.three(x).unflatten(2, (3, 2, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value, scale=0.3)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        return self.classifier(self.norm(x.transpose(1, 2)).mean(2))


class Shuffled(nn.Module):
    """With grouped convolutions and channels that change places."""

    def __init__(self, width):
        super().__init__()
        self.first, self.second = unit(2, width), unit(width, width, groups=2)
        self.third = unit(width, width, groups=2)
        self.classifier = nn.Linear(width, CLASSES)

    def forward(self, x):
        x = self.second(self.first(x))
        x = x.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)
        return self.classifier(self.third(x).mean((2, 3)))


FAMILIES = {
    "residual": residual,
    "pre-activation": PreActivation,
    "padded shortcuts": Padded,
    "inverted residuals": Inverted,
    "flattened": flattened,
    "dense": Dense,
    "scaled": Scaled,
    "attentive": Attentive,
    "shuffled": Shuffled,
}


def make(family, width, seed=0):
    torch.manual_seed(seed)
    return FAMILIES[family](width) if isinstance(family, str) else family(width)


def with_dead_channels(network, alive):
    """Makes every class of channels give nothing, but those that ``alive(position, size)`` names among those that are
    chosen together."""
    own = follow(network, torch.zeros(2, *SHAPE))
    pools = own.pools({path: path for path in own.layers})
    dead = {
        name
        for pool in pools.values()
        if len(pool) != CLASSES
        for i, name in enumerate(pool)
        if i not in alive(len(pool))
    }
    with torch.no_grad():
        for layer in own.layers.values():
            for name, use in layer.uses.items():
                tensor = getattr(network.get_submodule(layer.path), name)
                dim = min(use.channels)
                gone = [x in dead for x in own.classes.of_all(use.channels[dim])]
                if "running" not in name:
                    tensor.index_fill_(dim, torch.tensor(gone).nonzero().flatten(), 0.0)
    return network


def every_second(size):
    return range(0, size, 2)


def answers(network):
    with torch.no_grad():
        return network.eval()(batches()[0])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_student_as_wide_as_its_teacher_is_the_teacher(family):
    teacher, student = make(family, 8), make(family, 8, seed=1)
    settle_statistics(teacher, batches())
    start = start_from_teacher(teacher, student, batches())
    assert torch.equal(answers(student), answers(teacher))
    assert (start.share, start.agreement, start.left, start.unused) == (1.0, 1.0, (), ())


@pytest.mark.parametrize("correction", ["none", "least-squares"])
@pytest.mark.parametrize("family", FAMILIES)
def test_channels_that_give_nothing_are_no_loss(family, correction):
    teacher, student = with_dead_channels(make(family, 8), every_second), make(family, 4, seed=1)
    settle_statistics(teacher, batches())
    start = start_from_teacher(teacher, student, batches(), Ways("even", correction=correction))
    assert start.share == 1.0
    assert torch.allclose(answers(student), answers(teacher), atol=1e-4)


@pytest.mark.parametrize("channels", ["scale", "least-squares"])
@pytest.mark.parametrize("family", ["residual", "inverted residuals", "flattened", "dense"])
def test_the_channels_that_matter_are_found_wherever_they_are(family, channels):
    def last_half(size):
        return range(size // 2, size)

    teacher, student = with_dead_channels(make(family, 8), last_half), make(family, 4, seed=1)
    settle_statistics(teacher, batches())
    start_from_teacher(teacher, student, batches(), Ways(channels, correction="none"))
    found = torch.allclose(answers(student), answers(teacher), atol=1e-4)
    # Scales say nothing of layers that no batch norm follows.
    assert found or (channels == "scale" and family in ("inverted residuals", "flattened"))


@pytest.mark.parametrize("channels", ["scale", "least-squares"])
def test_queries_stay_queries_and_values_values(channels):
    start = start_from_teacher(make("attentive", 8), make("attentive", 4, seed=1), batches(), Ways(channels))
    assert start.left == ()


@pytest.mark.parametrize("correction", ["factor", "least-squares"])
def test_least_squares_puts_what_copies_said_into_what_is_left(correction):
    teacher, student = make("dense", 8), make("dense", 4, seed=1)
    with torch.no_grad():
        for module in teacher.modules():
            if isinstance(module, nn.Conv2d):
                module.weight[1::2] = module.weight[::2]
    settle_statistics(teacher, batches())
    start_from_teacher(teacher, student, batches(), Ways("even", correction=correction))
    error = (answers(student) - answers(teacher)).abs().max() / answers(teacher).abs().max()
    assert (error < 1e-2) == (correction == "least-squares")


@pytest.mark.parametrize(("blocks", "kept"), [("first", {1, 2}), ("even", {2, 4})])
def test_blocks_that_do_nothing_can_be_dropped(blocks, kept):
    teacher, student = make(lambda w: residual(w, (1, 5)), 4), make(lambda w: residual(w, (1, 3)), 4, seed=1)
    for i in {1, 2, 3, 4} - kept:
        nn.init.zeros_(teacher.stages[1][i].bn2.weight)
    settle_statistics(teacher, batches())
    start = start_from_teacher(teacher, student, batches(), Ways(blocks=blocks))
    assert torch.allclose(answers(student), answers(teacher), atol=1e-5)
    sources = {own.layer: own.source for own in start.taken}
    assert sources["stages.1.0.conv1"] == "stages.1.0.conv1"
    assert sources["stages.1.2.conv2"] == f"stages.1.{max(kept)}.conv2"
    assert {path.split(".conv")[0] for path in start.unused if ".conv" in path} == {
        f"stages.1.{i}" for i in {1, 2, 3, 4} - kept
    }


def test_what_is_added_is_chosen_alike():
    network = residual(4, (2, 2))
    own = follow(network, torch.zeros(2, *SHAPE))
    pools = own.pools({IMAGES: "images", **{path: path for path in own.layers}})
    streams = {
        ("stem.0", "stages.0.0.conv2", "stages.0.1.conv2"): 4,
        ("stages.1.0.conv2", "stages.1.0.shortcut.0", "stages.1.1.conv2"): 8,
        ("images",): 2,
    }
    for names, size in streams.items():
        assert len(pools[frozenset((name, 1) for name in names)]) == size


def test_many_channels_are_chosen_by_what_is_unexplained():
    source = torch.Generator().manual_seed(0)
    told = torch.randn(3, 6, generator=source, dtype=torch.float64)
    told[:, 3:] = 0.1 * told[:, :3]
    covariance = told.T @ told
    assert sorted(_by_variance(covariance, 3)) == [0, 1, 2]
    assert sorted(i % 3 for i in _by_gain(covariance, 3)) == [0, 1, 2]


def test_layers_of_other_names_are_matched_in_the_order_of_running():
    class Renamed(nn.Module):
        def __init__(self):
            super().__init__()
            own = make("residual", 8)
            self.head, self.trunk, self.beginning = own.classifier, own.stages, own.stem

        def forward(self, x):
            return self.head(self.trunk(self.beginning(x)).mean((2, 3)))

    teacher, student = Renamed(), make("residual", 8, seed=1)
    settle_statistics(teacher, batches())
    start = start_from_teacher(teacher, student, batches())
    assert start.share == 1.0
    assert torch.equal(answers(student), answers(teacher))


@pytest.mark.parametrize(
    ("of", "to"), [("flattened", "residual"), ("residual", "flattened"), ("dense", "pre-activation")]
)
def test_networks_of_two_families_are_left_alone(of, to):
    teacher, student = make(of, 8), make(to, 4)
    before = copy.deepcopy(student.state_dict())
    start = start_from_teacher(teacher, student, batches())
    assert not start.from_teacher
    assert "not of the teacher's family" in start.reason
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())


def test_a_layer_that_fits_nowhere_is_left_and_named():
    teacher, student = make("flattened", 8), make("flattened", 4, seed=1)
    student[2][0] = nn.Conv2d(4, 8, 5, padding=2, bias=False)
    before = student[2][0].weight.clone()
    start = start_from_teacher(teacher, student, batches())
    assert torch.equal(student[2][0].weight, before)
    assert {own.layer: own.reason for own in start.left} == {
        "2.0": "weight [8, 4, 5, 5] does not fit [8, 4, 3, 3]"
    }


def test_a_student_that_is_wider_takes_nothing_there():
    teacher, student = make("flattened", 4), make("flattened", 8, seed=1)
    start = start_from_teacher(teacher, student, batches())
    assert not start.from_teacher
    assert any("wider than the teacher's" in own.reason for own in start.left)


def test_both_networks_keep_modes_and_the_teacher_its_state():
    teacher, student = make("inverted residuals", 8), make("inverted residuals", 4)
    teacher.train()
    student.eval()
    student.stem.train()
    modes = [module.training for module in student.modules()]
    before = copy.deepcopy(teacher.state_dict())
    start_from_teacher(teacher, student, batches())
    assert [module.training for module in student.modules()] == modes
    assert all(module.training for module in teacher.modules())
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert student.stem[1].momentum == 0.1


def test_statistics_are_the_mean_of_all_batches():
    network = nn.Sequential(nn.BatchNorm2d(2), nn.Dropout(), nn.Flatten())
    assert was_trained(network) is False
    shown = batches()
    assert settle_statistics(network, iter(shown)) == 3
    mean = torch.stack([images.mean((0, 2, 3)) for images in shown]).mean(0)
    variance = torch.stack([images.var((0, 2, 3)) for images in shown]).mean(0)
    assert torch.allclose(network[0].running_mean, mean, atol=1e-6)
    assert torch.allclose(network[0].running_var, variance, rtol=1e-5)
    assert was_trained(network) is True
    assert was_trained(nn.Linear(2, 2)) is None
    assert settle_statistics(nn.Flatten(), shown) == 0


def test_the_same_networks_and_images_make_the_same_student():
    teacher = make("residual", 8)
    students = [make("residual", 4, seed=1) for _ in range(2)]
    starts = [start_from_teacher(teacher, student, batches()) for student in students]
    assert starts[0] == starts[1]
    first, second = (student.state_dict() for student in students)
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_a_network_that_cannot_be_followed_is_told():
    class Fails(nn.Module):
        def forward(self, x):
            raise RuntimeError("no weights today")

    start = start_from_teacher(make("residual", 8), Fails(), batches())
    assert start.reason == "because its layers could not be followed: no weights today"
    assert start.lines() == [f"student: keeps its own weights, {start.reason}"]


@pytest.mark.parametrize("shown", [[], [torch.zeros(1, *SHAPE)]])
def test_too_few_images_are_refused(shown):
    with pytest.raises(UsageError, match="batches of at least 2 images"):
        start_from_teacher(make("residual", 8), make("residual", 4), shown)


def test_what_was_taken_is_told_in_lines_and_as_data():
    teacher = make(lambda width: residual(width, (1, 3)), 8)
    start = start_from_teacher(teacher, make("residual", 4), batches())
    lines = "\n".join(start.lines())
    assert "initialized from the teacher (100.00 % of its parameters, 17 layers)" in lines
    assert "17 layers narrowed, such as" in lines
    assert "without the teacher's stages.1.1.conv1" in lines
    assert "agreement with the teacher before the first step, on 48 drawn images" in lines
    data = start.as_data()
    assert data["share"] == 1.0
    assert data["taken"]["stem.0"] == "stem.0"
    assert data["unused"] == list(start.unused)


def test_a_bias_that_the_teacher_has_none_of_adds_nothing():
    """But for what channels that are lacking added on average."""

    def network(width, bias):
        return nn.Sequential(
            nn.Conv2d(2, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, 4, 3, padding=1, bias=bias),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(256, CLASSES),
        )

    torch.manual_seed(0)
    teacher, student, narrower = network(8, False), network(8, True), network(4, True)
    start_from_teacher(teacher, student, batches())
    for images in batches():
        torch.testing.assert_close(student(images), teacher(images))
    assert not start_from_teacher(teacher, narrower, batches()).left
    assert narrower[2].bias.abs().min() > 0
