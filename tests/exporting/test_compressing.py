"""Students that are compressed after distillation: what their weights are, what they learn, what is refused."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dfad_fast.errors import RunError, UsageError
from dfad_fast.exporting import CompressionSettings, compress
from dfad_fast.exporting.compressing.few_values import Binary, Ternary
from dfad_fast.exporting.compressing.tuning import tune
from tests.small_networks import make_net


def images(count=64):
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def compressed(how, steps=3, student=None, shown=None, **settings):
    torch.manual_seed(0)
    teacher = make_net(6).eval()
    student = copy.deepcopy(teacher) if student is None else student
    shown = images() if shown is None else shown

    def agreement(network):
        assert not network.training
        return {"agreement": (network(shown).argmax(1) == teacher(shown).argmax(1)).double().mean().item()}

    settings = CompressionSettings(how, steps=steps, **settings)
    done = compress(student, shown, teacher(shown).detach(), settings, agreement)
    return done, student, teacher


def deep_net():
    """Four layers of which the inner two are compressed to few values."""
    net = make_net(4)
    net.insert(3, nn.Conv2d(4, 4, 3, padding=1))
    return net


@pytest.mark.parametrize("sparsity", [None, 0.5])
def test_the_smallest_weights_of_all_layers_are_zero_and_stay_it(sparsity):
    torch.manual_seed(0)
    before = make_net(6)
    sizes = torch.cat([m.weight.detach().flatten().abs() for m in (before[0], before[4], before[9])])
    done, student, _ = compressed("pruned", sparsity=sparsity)
    weights = torch.cat([m.weight.detach().flatten() for m in (student[0], student[4], student[9])])
    least = sizes.argsort()[: round((sparsity or 0.8) * len(sizes))]
    assert set((weights == 0).nonzero().flatten().tolist()) == set(least.tolist())
    assert (done.weights, done.zeros) == (len(sizes), len(least))


@pytest.mark.parametrize(("how", "values"), [("binary", 2), ("ternary", 3)])
def test_inner_weights_have_few_values_in_each_channel(how, values):
    done, student, _ = compressed(how, student=deep_net())
    for layer in (student[3], student[5]):
        for channel in layer.weight.detach():
            found = channel.unique()
            assert len(found) == values
            assert torch.equal(found, -found.flip(0))
    assert len(student[0].weight.unique()) > 3  # as are the last one's
    assert len(student[10].weight.unique()) > 3
    assert done.weights == student[3].weight.numel() + student[5].weight.numel()
    assert done.zeros == (
        0 if how == "binary" else int((student[5].weight == 0).sum() + (student[3].weight == 0).sum())
    )


@pytest.mark.parametrize("how", ["pruned", "binary", "ternary"])
def test_the_student_keeps_its_names_and_is_as_measured(how):
    done, student, teacher = compressed(how, student=deep_net())
    fresh = deep_net()
    assert {k: v.shape for k, v in student.state_dict().items()} == {
        k: v.shape for k, v in fresh.state_dict().items()
    }
    assert all(
        type(own) is type(other) for own, other in zip(student.modules(), fresh.modules(), strict=True)
    )
    assert not student.training
    same = (student(images()).argmax(1) == teacher(images()).argmax(1)).double().mean().item()
    assert done.after == {"agreement": same}
    assert done.packed_bytes < done.bytes == sum(t.nbytes for t in student.state_dict().values())


def test_formulas_of_few_values():
    weight = torch.tensor([[0.5, -0.1, 0.3, -0.3], [2.0, 0.0, -1.0, 1.0]])
    assert torch.allclose(Binary()(weight), torch.tensor([[0.3, -0.3, 0.3, -0.3], [1.0, 1.0, -1.0, 1.0]]))
    third = 1.1 / 3
    expected = torch.tensor([[third, 0.0, third, -third], [4 / 3, 0.0, -4 / 3, 4 / 3]])
    assert torch.allclose(Ternary()(weight), expected)
    assert torch.equal(Ternary()(torch.zeros(2, 3)), torch.zeros(2, 3))


@pytest.mark.parametrize("kind", [Binary, Ternary])
def test_gradients_go_straight_through_between_minus_one_and_one(kind):
    weight = torch.tensor([[0.5, -0.1, 1.5, -2.0]], requires_grad=True)
    (kind()(weight) * torch.tensor([1.0, 2.0, 3.0, 4.0])).sum().backward()
    assert weight.grad.tolist() == [[1.0, 2.0, 0.0, 0.0]]


def test_tuning_follows_a_plain_loop():
    """Three steps of a binary student, written out."""
    torch.manual_seed(0)
    teacher, plain = make_net(6).eval().double(), deep_net().double()
    student, shown = copy.deepcopy(plain), images(128).double()
    compress(student, shown, teacher(shown).detach(), CompressionSettings("binary", steps=3), lambda _: {})
    inner = [plain[3], plain[5]]
    latent = [layer.weight.detach().clone() for layer in inner]
    names = {id(layer.weight) for layer in inner}
    others = [p for p in plain.parameters() if id(p) not in names]
    parameters = [*others, *latent]
    adam = torch.optim.Adam(parameters, lr=1e-3)
    drawn = torch.Generator().manual_seed(0)
    plain.train()
    for step in range(3):
        adam.param_groups[0]["lr"] = 1e-3 * (1.0, 0.75, 0.25)[step]
        rows = torch.randperm(128, generator=drawn)
        for layer, weight in zip(inner, latent, strict=True):
            scale = weight.abs().mean((1, 2, 3), keepdim=True)
            layer.weight.data = torch.where(weight >= 0, scale, -scale)
        plain.zero_grad()
        with torch.no_grad():
            target = (teacher(shown[rows]) / 4).softmax(1)
        F.kl_div((plain(shown[rows]) / 4).log_softmax(1), target, reduction="batchmean").backward()
        for layer, weight in zip(inner, latent, strict=True):
            weight.grad = layer.weight.grad * (weight.abs() <= 1)
        adam.step()
    for layer, weight in zip(inner, latent, strict=True):
        scale = weight.abs().mean((1, 2, 3), keepdim=True)
        layer.weight.data = torch.where(weight >= 0, scale, -scale)
    expected = plain.state_dict()
    for name, own in student.state_dict().items():
        torch.testing.assert_close(own, expected[name], rtol=0, atol=1e-9)


def test_tuning_brings_the_student_back_to_its_teacher():
    torch.manual_seed(0)
    teacher, shown = make_net(6), images()
    for _ in range(30):  # running statistics
        teacher(shown)
    teacher.eval()
    with torch.no_grad():
        teacher[-1].weight *= 10
    student = copy.deepcopy(teacher)

    def apart(network):
        return {"apart": (network(shown) - teacher(shown)).abs().mean().item()}

    settings = CompressionSettings("pruned", 0.7, steps=100)
    done = compress(student, shown, teacher(shown).detach(), settings, apart)
    assert done.before == {"apart": 0.0}
    assert done.after["apart"] < 0.7 * done.untuned["apart"]


def test_the_same_seed_gives_the_same_student_and_nothing_else_is_drawn():
    torch.manual_seed(2)
    net, ends = deep_net(), []
    net.insert(10, nn.Dropout())
    for drawn in (5, 6):
        student = copy.deepcopy(net)
        torch.manual_seed(drawn)
        before = torch.get_rng_state()
        tune(student, images(), torch.zeros(64, 4), 2, seed=1)
        assert torch.equal(torch.get_rng_state(), before)
        ends.append(student)
    assert all(torch.equal(a, b) for a, b in zip(*(end.parameters() for end in ends), strict=True))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"how": "small"}, "way to compress.*'small'.*pruned"),
        ({"how": "pruned", "sparsity": 1.0}, "sparsity must be more than 0 and less than 1, got 1.0"),
        ({"how": "binary", "sparsity": 0.5}, "sparsity is for a pruned student, got binary"),
        ({"how": "binary", "steps": -1}, "steps must be at least 0, got -1"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(UsageError, match=message):
        CompressionSettings(**settings)


def tied():
    net = deep_net()
    net.insert(4, nn.Conv2d(4, 4, 3, padding=1))
    net[4].weight = net[3].weight
    return net


def tied_to_the_last():
    """An inner layer may be binary, but the last one keeps full precision."""
    net = nn.Sequential(nn.Flatten(), *(nn.Linear(64, 64) for _ in range(4)))
    net[4].weight = net[2].weight
    return net


@pytest.mark.parametrize(
    ("how", "student", "message"),
    [
        (
            "binary",
            nn.Sequential(nn.Flatten(), nn.Linear(64, 4)),
            "has 1 linear and convolution layers.* at least 3",
        ),
        ("pruned", nn.Sequential(nn.Flatten()), "has 0 linear and convolution layers.* at least 1"),
        ("pruned", tied(), "3 and 4 share a weight"),
        ("binary", tied_to_the_last(), "2 and 4 share a weight"),
        ("pruned", deep_net().requires_grad_(False), "no parameter of the student requires a gradient"),
        (
            "pruned",
            nn.Sequential(nn.Flatten(), nn.utils.parametrizations.weight_norm(nn.Linear(64, 4))),
            "1 computes its weight",
        ),
    ],
)
def test_networks_that_cannot_be_compressed_are_refused_as_they_were(how, student, message):
    before = copy.deepcopy(student.state_dict())
    with pytest.raises(UsageError, match=message):
        compressed(how, student=student)
    assert all(torch.equal(before[key], value) for key, value in student.state_dict().items())


class Attending(nn.Module):
    """Reads the weight of a layer without calling it."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        tokens = x.view(len(x), 8, 8)
        return self.head(self.attention(tokens, tokens, tokens)[0].mean(1))


def test_a_weight_that_is_read_past_its_layer_is_tuned_too():
    torch.manual_seed(0)
    student = Attending()
    before = student.attention.out_proj.weight.detach().clone()
    compressed("pruned", student=student)
    weight = student.attention.out_proj.weight
    assert (weight == 0).any()
    assert not torch.equal(weight[weight != 0], before[weight != 0])


def test_a_mask_that_is_infinite_is_no_fault():
    student = deep_net()
    student.register_buffer("beyond", torch.tensor([float("-inf")]))
    done, _, _ = compressed("pruned", student=student)
    assert done.zeros


def test_a_student_that_cannot_be_trained_is_told_in_a_line():
    student = deep_net()
    student.register_forward_pre_hook(lambda module, _: 1 / 0 if module.training else None)
    with pytest.raises(RunError, match=r"failed while it was tuned: .*division"):
        compressed("pruned", student=student)


def test_one_image_is_too_few():
    with pytest.raises(UsageError, match="at least 2 images, got 1"):
        compressed("pruned", shown=images(1))


def test_answers_are_as_many_as_images():
    with pytest.raises(UsageError, match="an answer for each of 4 images, got 3"):
        compress(deep_net(), images(4), torch.zeros(3, 4), CompressionSettings("pruned"), lambda _: {})


def test_a_student_that_diverges_is_refused():
    with pytest.raises(RunError, match="weights that are not finite"):
        compressed("pruned", shown=images() * float("inf"))


@pytest.mark.parametrize("how", ["pruned", "binary", "ternary"])
def test_weights_keep_their_memory_format(how):
    student = deep_net().to(memory_format=torch.channels_last)
    strides = {name: p.stride() for name, p in student.named_parameters()}
    compressed(how, student=student)
    assert {name: p.stride() for name, p in student.named_parameters()} == strides
