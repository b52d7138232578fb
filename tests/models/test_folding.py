import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dfad_fast.models import ResNet
from dfad_fast.models.reading.taps import Taps, find_taps, named_taps
from dfad_fast.models.surgery import folding
from dfad_fast.models.surgery.folding import fold_batch_norm
from dfad_fast.models.zoo.resnet_plain import PlainResNet

IMAGES = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def lived_in(network):
    """``network`` in eval mode, with batch norm layers that do something in each of their parts."""
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
            module.running_mean.normal_()
            module.running_var.uniform_(0.2, 3)
            if module.affine:
                nn.init.uniform_(module.weight, 0.5, 2)
                nn.init.normal_(module.bias)
    return network.eval()


def norms(network):
    return [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


def assert_folds(network, folded, kept=0, images=IMAGES, **options):
    result = fold_batch_norm(lived_in(network), images, **options)
    assert (result.folded, result.kept, result.reason) == (folded, kept, None)
    assert len(norms(result.network)) == kept
    assert_same_answers(result.network, network, images)
    return result.network


def assert_same_answers(a, b, images=IMAGES):
    expected = b(images).detach()
    torch.testing.assert_close(
        a(images).detach(), expected, rtol=0, atol=2e-6 * expected.abs().max().item() + 1e-9
    )


def assert_keeps(network, reason, images=IMAGES):
    result = fold_batch_norm(lived_in(network), images)
    assert result.network is network
    assert result.folded == 0
    assert result.kept == len(norms(network))
    assert reason in result.reason
    assert str(result) == f"none folded: {result.reason}"


class Net(nn.Module):
    """Modules by name, and a function of the network and the images that is its forward."""

    def __init__(self, run, **modules):
        super().__init__()
        self._run = run
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x):
        return self._run(self, x)


def conv(channels_in=3, channels_out=8, **options):
    return nn.Conv2d(channels_in, channels_out, 3, padding=1, **options)


def conv_bn(channels_in=3):
    return nn.Sequential(conv(channels_in), nn.BatchNorm2d(8), nn.LeakyReLU(0.2))


def resnet():
    return lived_in(ResNet((3, 8, 8), 10, (1, 1, 1), (4, 8, 16)))


def test_a_resnet_is_folded_in_full_and_its_taps_read_the_same():
    network = resnet()
    duplicate = assert_folds(network, folded=9)
    taps = find_taps(network, IMAGES)
    assert find_taps(duplicate, IMAGES) == taps
    assert len(taps) == 3
    taps += named_taps(network, IMAGES, ["stages.1.0.bn2", "stem", "stages.2"])
    with Taps(network, taps).record() as expected, Taps(duplicate, taps).record() as features:
        network(IMAGES), duplicate(IMAGES)
    for a, b in zip(features, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    assert [path for path, _ in duplicate.named_modules()] == [path for path, _ in network.named_modules()]


def test_a_resnet_with_shortcuts_without_parameters_is_folded_in_full():
    assert_folds(lived_in(PlainResNet((3, 8, 8), 10, 1)), folded=7)


def test_gradients_to_the_images_are_the_originals():
    network = resnet().double()
    images = IMAGES.double()
    duplicate = fold_batch_norm(network, images).network
    gradients = []
    for each in (network, duplicate):
        x = images.clone().requires_grad_()
        each(x).square().sum().backward()
        gradients.append(x.grad)
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-9)
    assert all(p.grad is None and not p.requires_grad for p in duplicate.parameters())


def test_the_original_is_left_as_it_was():
    network = resnet().train().to(memory_format=torch.channels_last)
    network.stem[0].weight.grad = torch.ones_like(network.stem[0].weight)
    calls = []
    hook = network.register_forward_hook(lambda *_: calls.append(1))
    kept = {key: (value, value.clone()) for key, value in network.state_dict(keep_vars=True).items()}
    random = torch.get_rng_state()
    result = fold_batch_norm(network, IMAGES)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(module.training for module in network.modules())
    assert not any(module.training for module in result.network.modules())
    for key, value in network.state_dict(keep_vars=True).items():
        assert value is kept[key][0]
        assert torch.equal(value, kept[key][1])
    assert all(p.requires_grad for p in network.parameters())
    assert network.stem[0].weight.grad is not None
    assert list(network._forward_hooks) == [hook.id]
    assert not any(m._forward_pre_hooks for m in [*network.modules(), *result.network.modules()])
    assert type(network.stem[1]) is nn.BatchNorm2d


def test_the_copy_is_laid_out_as_the_original_and_shares_what_is_not_folded():
    network = resnet().to(memory_format=torch.channels_last)
    duplicate = fold_batch_norm(network, IMAGES).network
    assert duplicate.stem[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert duplicate.classifier.weight.data_ptr() == network.classifier.weight.data_ptr()
    assert duplicate.stem[0].weight.data_ptr() != network.stem[0].weight.data_ptr()


def test_parameters_of_a_kind_of_their_own_are_copied_and_frozen():
    class Special(nn.Parameter):
        pass

    network = nn.Sequential(conv_bn(), conv(8, 3))
    network[1].weight = Special(network[1].weight.detach())
    duplicate = assert_folds(network, folded=1)
    assert type(duplicate[1].weight) is Special
    assert not any(p.requires_grad for p in duplicate.parameters())
    assert network[1].weight.requires_grad


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_copy_has_the_originals_dtype(dtype):
    network = resnet().to(dtype)
    result = fold_batch_norm(network, IMAGES.to(dtype))
    assert result.folded == 9
    assert {p.dtype for p in result.network.parameters()} == {dtype}
    if dtype == torch.float64:
        torch.testing.assert_close(
            result.network(IMAGES.double()), network(IMAGES.double()), rtol=1e-10, atol=0
        )


@pytest.mark.parametrize(
    ("layer", "norm", "shape"),
    [
        (lambda: conv(bias=False), nn.BatchNorm2d(8), (3, 8, 8)),
        (lambda: conv(bias=True), nn.BatchNorm2d(8, affine=False, momentum=None, eps=0.1), (3, 8, 8)),
        (lambda: conv(padding_mode="reflect"), nn.BatchNorm2d(8), (3, 8, 8)),
        (lambda: nn.Conv2d(4, 8, 3, groups=2), nn.BatchNorm2d(8), (4, 8, 8)),
        (lambda: nn.Conv2d(8, 8, 3, groups=8, stride=2), nn.BatchNorm2d(8), (8, 8, 8)),
        (lambda: nn.ConvTranspose2d(4, 8, 3), nn.BatchNorm2d(8), (4, 5, 5)),
        (lambda: nn.ConvTranspose2d(6, 4, 3, groups=2, stride=2, bias=False), nn.BatchNorm2d(4), (6, 5, 5)),
        (lambda: nn.Conv1d(3, 8, 3), nn.BatchNorm1d(8), (3, 9)),
        (lambda: nn.ConvTranspose3d(2, 4, 2), nn.BatchNorm3d(4), (2, 3, 3, 3)),
        (lambda: nn.Linear(6, 5), nn.BatchNorm1d(5), (6,)),
        (lambda: nn.Linear(6, 5, bias=False), nn.BatchNorm1d(5, affine=False), (6,)),
    ],
)
def test_every_kind_of_layer_is_folded(layer, norm, shape):
    network = nn.Sequential(layer(), norm)
    duplicate = assert_folds(network, folded=1, images=torch.randn(4, *shape))
    assert type(duplicate[1]) is nn.Identity


def test_a_norm_before_its_convolution_is_kept():
    before = nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), conv())
    assert_keeps(before, "no layer is the only user of a convolution or linear layer")
    both = nn.Sequential(before, conv_bn(8))
    duplicate = assert_folds(both, folded=1, kept=1)
    assert type(duplicate[0][0]) is nn.BatchNorm2d


def shared_weight(net, x):
    return net.bn(net.conv(x)) + net.other(x)


def with_shared_weight():
    net = Net(shared_weight, conv=conv(), other=conv(), bn=nn.BatchNorm2d(8))
    net.other.weight = net.conv.weight
    return net


def with_hook():
    net = conv_bn()
    net[0].register_forward_hook(lambda *_: None)
    return net


def under_two_names():
    net = Net(lambda net, x: net.bn(net.conv(x)), conv=conv(), bn=nn.BatchNorm2d(8))
    net.another = net.conv
    return net


def weight_normalized(wrap):
    net = conv_bn()
    wrap(net[0])
    return net


class ScaledConv(nn.Conv2d):
    def forward(self, x):
        return 2 * super().forward(x)


class StubbornNorm(nn.BatchNorm2d):
    pass


PARTS = {"conv": conv, "bn": lambda: nn.BatchNorm2d(8), "other": lambda: conv(bias=False)}


@pytest.mark.parametrize(
    "run",
    [
        pytest.param(lambda net, x: (y := net.conv(x)) + net.bn(y), id="conv's output used twice"),
        pytest.param(lambda net, x: net.bn(net.conv(x)) + net.conv(x), id="conv called twice"),
        pytest.param(lambda net, x: net.bn(net.conv(x)) + net.bn(net.other(x)), id="norm of two convs"),
        pytest.param(lambda net, x: net.bn(net.bn(net.conv(x))), id="norm called twice"),
        pytest.param(lambda net, x: net.bn(net.conv(x).relu()), id="relu between"),
        pytest.param(lambda net, x: (y := net.conv(x), y.mul_(2), net.bn(y))[-1], id="in place between"),
        pytest.param(
            lambda net, x: net.bn(net.conv(x)) + net.conv.weight.sum(), id="weight read by the network"
        ),
        pytest.param(
            lambda net, x: (
                net.bn(net.conv(x)) + F.batch_norm(net.other(x), net.bn.running_mean, net.bn.running_var)
            ),
            id="norm's statistics read by the network",
        ),
        pytest.param(
            lambda net, x: F.batch_norm(net.conv(x), net.bn.running_mean, net.bn.running_var),
            id="functional norm",
        ),
        pytest.param(
            lambda net, x: net.bn(F.conv2d(x, net.conv.weight, padding=1)), id="functional convolution"
        ),
        pytest.param(lambda net, x: net.bn(net.conv.forward(x)) + net.conv(x), id="forward called directly"),
    ],
)
def test_what_is_not_a_norm_alone_behind_its_layer_is_kept(run):
    assert_keeps(Net(run, **{name: make() for name, make in PARTS.items()}), "is the only user")


@pytest.mark.parametrize(
    "network",
    [
        pytest.param(with_shared_weight(), id="shared weight"),
        pytest.param(with_hook(), id="hook"),
        pytest.param(under_two_names(), id="two names"),
        pytest.param(weight_normalized(nn.utils.parametrizations.weight_norm), id="parametrization"),
        pytest.param(nn.Sequential(ScaledConv(3, 8, 3), nn.BatchNorm2d(8)), id="own convolution"),
        pytest.param(nn.Sequential(conv(), nn.BatchNorm2d(8, track_running_stats=False)), id="no statistics"),
    ],
)
def test_modules_that_are_not_plainly_their_own_are_kept(network):
    assert_keeps(network, "is the only user")


def test_norms_by_another_name_do_not_count():
    network = nn.Sequential(conv(), StubbornNorm(8))
    result = fold_batch_norm(network.eval(), IMAGES)
    assert (result.network, result.kept) == (network, 0)
    assert result.reason == "there are no batch norm layers"


def test_a_norm_that_takes_the_rows_of_a_linear_layer_for_channels_is_kept():
    rows = Net(
        lambda net, x: net.bn(net.linear(x.flatten(2))).mean(2),
        linear=nn.Linear(64, 3),
        bn=nn.BatchNorm1d(3),
    )
    assert_keeps(rows, "did not run on an example as expected")
    both = Net(lambda net, x: net.rows(net.block(x)[:, :3]), rows=rows, block=conv_bn())
    duplicate = assert_folds(both, folded=1, kept=1)
    assert not duplicate.rows.bn._forward_pre_hooks


def test_optional_arguments_have_their_defaults():
    class Optional(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.bn = conv(), nn.BatchNorm2d(8)

        def forward(self, x, plain=False):
            return self.conv(x) if plain else self.bn(self.conv(x))

    assert_folds(Optional(), folded=1)
    # A network of one's own may call it otherwise.
    assert_folds(Net(lambda net, x: net.body(x), body=Optional()), folded=1)
    assert_keeps(Net(lambda net, x: net.body(x, plain=True), body=Optional()), "is the only user")


def test_a_block_that_is_called_twice_is_folded():
    assert_folds(
        Net(lambda net, x: net.block(net.block(x)), block=nn.Sequential(conv(3, 3), nn.BatchNorm2d(3))), 1
    )


def depends_on_data(net, x):
    y = net.bn(net.conv(net.first(x)))
    return net.second(y) if y.sum() > -1e9 else y


def test_the_traceable_parts_of_an_untraceable_network_are_folded():
    network = Net(
        depends_on_data,
        first=conv_bn(),
        conv=conv(8),
        bn=nn.BatchNorm2d(8),
        second=conv_bn(8),
    )
    duplicate = assert_folds(network, folded=2, kept=1)
    assert type(duplicate.bn) is nn.BatchNorm2d


def test_around_an_untraceable_part_the_rest_is_folded():
    part = Net(depends_on_data, first=conv_bn(8), conv=conv(8), bn=nn.BatchNorm2d(8), second=conv_bn(8))
    network = Net(
        lambda net, x: net.blocks[1](net.blocks[0](net.bn(net.conv(x)))),
        conv=conv(),
        bn=nn.BatchNorm2d(8),
        blocks=nn.ModuleList([part, conv_bn(8)]),
    )
    assert_folds(network, folded=4, kept=1)


def test_where_nothing_can_be_traced_nothing_is_folded():
    assert_keeps(
        Net(lambda net, x: net.bn(net.conv(x)) if x.sum() < 1e9 else x, conv=conv(), bn=nn.BatchNorm2d(8)),
        "and parts of the network cannot be traced",
    )


def test_a_network_that_keeps_what_it_computes_keeps_no_symbols():
    def run(net, x):
        net.kept = net.conv(x)
        return net.bn(net.kept)

    network = Net(run, conv=conv(), bn=nn.BatchNorm2d(8))
    fold_batch_norm(lived_in(network), IMAGES)
    assert not hasattr(network, "kept")


def test_a_network_that_cannot_be_copied_is_kept():
    network = conv_bn()
    network.lock = (_ for _ in ())  # generators cannot be copied
    assert_keeps(network, "the network cannot be copied (cannot pickle 'generator' object)")


def test_a_network_that_is_its_own_copy_is_kept():
    class Single(nn.Sequential):
        def __deepcopy__(self, memo):
            return self

    network = Single(conv(), nn.BatchNorm2d(8))
    assert_keeps(network, "shares modules with it")
    assert type(network[1]) is nn.BatchNorm2d


def test_a_network_that_fails_or_answers_otherwise_is_kept():
    assert_keeps(conv_bn(), "a copy of the network cannot be run", images=torch.randn(2, 5, 8, 8))
    assert_keeps(Net(lambda net, x: [net.bn(net.conv(x))], conv=conv(), bn=nn.BatchNorm2d(8)), "returns list")
    assert_keeps(nn.Sequential(conv_bn(), Net(lambda _, x: x * float("nan"))), "are off by nan")


def test_a_layer_whose_output_is_watched_is_kept():
    network = nn.Sequential(nn.Sequential(conv()), nn.BatchNorm2d(8), nn.ReLU(), conv_bn(8))
    for path in ("0", "0.0"):
        duplicate = assert_folds(network, folded=1, kept=1, watched=[path])
        torch.testing.assert_close(duplicate[0](IMAGES), network[0](IMAGES))
    assert_folds(network, folded=2, watched=["1", "3"])


def forgets_the_mean(pair, network):
    norm = network.get_submodule(pair.norm)
    norm.running_mean = torch.zeros_like(norm.running_mean)
    right(pair, network)


def forgets_epsilon(pair, network):
    norm = network.get_submodule(pair.norm)
    norm.eps = 0.0 if norm.eps > 1e-3 else norm.eps
    right(pair, network)


right = folding._fold


@pytest.mark.parametrize("wrong", [forgets_the_mean, forgets_epsilon])
def test_a_wrong_fold_is_caught(monkeypatch, wrong):
    network = nn.Sequential(conv(), nn.BatchNorm2d(8, eps=1e-2))
    assert_folds(network, folded=1)
    monkeypatch.setattr(folding, "_fold", wrong)
    assert_keeps(network, "of the largest of the original's")


def test_the_copy_follows_a_network_that_draws():
    network = Net(lambda net, x: net.block(x) * torch.rand(()) + F.dropout(x[:, :1]), block=conv_bn())
    assert fold_batch_norm(lived_in(network), IMAGES).folded == 1
