import copy
import operator

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from dfad_fast.models import create_network
from dfad_fast.models.reading.taps import Tap, Taps
from dfad_fast.models.surgery import batch_norms
from dfad_fast.models.surgery.quick_layers import QuickLayers

IMAGES = torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def slopes(monkeypatch):
    """The slopes of activations that went with batch norm layers; "sum" before one where something was added."""
    seen = []
    real = batch_norms.batch_norm_like

    def counted(layer, x, residual=None, slope=1.0):
        seen.append(slope if residual is None else f"sum {slope}")
        return real(layer, x, residual, slope)

    monkeypatch.setattr(batch_norms, "batch_norm_like", counted)
    return seen


def fused_batch_norms(network):
    return QuickLayers(network, winograd=False, direct=False)


def network():
    torch.manual_seed(0)
    return create_network("resnet8-w32", (1, 8, 8), 10)


@pytest.mark.parametrize("training", [True, False])
def test_answers_gradients_and_running_statistics_are_the_networks(slopes, training):
    mine, exact = network().train(training), network().double().train(training)
    fused = fused_batch_norms(mine)
    assert fused.describe() == {}
    with fused.used():
        answer = mine(IMAGES)
        answer.square().sum().backward()
    # The stem's and each block's first; each block's second, whose sum is with the shortcut's where that has one.
    assert fused.describe() == {"batch norms": "9 by batch_norm_act; 3 with a sum, 7 with an activation"}
    expected = exact(IMAGES.double())
    expected.square().sum().backward()
    torch.testing.assert_close(answer.double(), expected, rtol=1e-4, atol=1e-5)
    for (name, p), q in zip(mine.named_parameters(), exact.parameters(), strict=True):
        error = (p.grad.double() - q.grad).abs().max() / q.grad.abs().max()
        assert error < 1e-3, name
    for b, c in zip(mine.buffers(), exact.buffers(), strict=True):
        torch.testing.assert_close(b.double(), c.double(), rtol=1e-4, atol=1e-5)
    assert sorted(map(str, slopes)) == ["0.0"] * 4 + ["1.0"] * 2 + ["sum 0.0"] * 3


def test_nothing_is_changed_outside_even_after_an_error(slopes):
    made = network()
    fused = fused_batch_norms(made)
    with pytest.raises(ZeroDivisionError), fused.used():
        raise ZeroDivisionError
    before = {name: dict(vars(m)) for name, m in made.named_modules()}
    made(IMAGES)
    assert not slopes
    assert all("forward" not in variables for variables in before.values())


class Twice(nn.Module):
    """One activation behind two norms, one norm whose output goes two ways, a call instead of a module."""

    def __init__(self):
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm2d(1) for _ in range(5))
        self.shared, self.leaky, self.relu = nn.ReLU(), nn.LeakyReLU(0.25), nn.ReLU()

    def forward(self, x):
        x = self.shared(self.norms[1](self.shared(self.norms[0](x))))
        x = self.shared(self.leaky(self.norms[2](x)))
        y = self.norms[3](x)
        return self.relu(y) + y + F.relu(self.norms[4](x))


def test_only_an_activation_that_alone_takes_a_norms_output_goes_with_it(slopes):
    mine = Twice()
    expected = copy.deepcopy(mine)(IMAGES)
    with fused_batch_norms(mine).used():
        torch.testing.assert_close(mine(IMAGES), expected)
    assert slopes == [0.0, 0.0, 0.25, 1.0, 1.0]


class Added(nn.Module):
    """As residual networks have it, with an activation that works in place behind both norms."""

    def __init__(self, add):
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm2d(1) for _ in range(2))
        self.convolution, self.relu, self.add = nn.Conv2d(1, 1, 1), nn.ReLU(inplace=True), add

    def forward(self, x):
        h = self.relu(self.norms[0](x))
        return self.relu(self.add(self.norms[1](self.convolution(h)), x))


SUMS = {
    "norm + x": lambda norm, x: norm + x,
    "x + norm": lambda norm, x: x + norm,
    "norm += x": operator.iadd,
    "norm + number": lambda norm, _: norm + 1,
    "norm + row": lambda norm, x: norm + x[:1],
    "norm + wider": lambda norm, x: norm + x.double(),
    "norm + norm": lambda norm, _: norm + norm,
    "x += norm": lambda norm, x: operator.iadd(x.clone(), norm),
    "call": torch.add,
    "difference": lambda norm, x: x - norm,
}


@pytest.mark.parametrize("add", SUMS)
def test_a_sum_with_a_norms_output(slopes, add):
    mine = Added(SUMS[add])
    other = copy.deepcopy(mine)
    x, y = IMAGES.clone().requires_grad_(), IMAGES.clone().requires_grad_()
    expected = other(y)
    with fused_batch_norms(mine).used():
        out = mine(x)
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-6)
    out.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(x.grad, y.grad, rtol=1e-5, atol=1e-5)
    assert slopes == [0.0, "sum 0.0" if add in ("norm + x", "x + norm", "norm += x", "call") else 1.0]


def test_two_norms_that_are_added(slopes):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.relu = nn.BatchNorm2d(1), nn.BatchNorm2d(1), nn.ReLU()
            self.convolutions = nn.ModuleList(nn.Conv2d(1, 1, 1) for _ in range(2))

        def forward(self, x):
            one, other = (convolution(x) for convolution in self.convolutions)
            return self.relu(self.first(one) + self.second(other))

    mine = Two()
    expected = copy.deepcopy(mine)(IMAGES)
    with fused_batch_norms(mine).used():
        torch.testing.assert_close(mine(IMAGES), expected)
    assert slopes == [1.0, "sum 0.0"]


def test_what_a_norm_is_given_may_not_change_before_the_sum(slopes):
    class Changing(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.relu = nn.BatchNorm2d(1), nn.ReLU()

        def forward(self, x):
            h = x * 2
            y = self.norm(h)
            return self.relu(y + h.add_(1))

    mine = Changing()
    expected = copy.deepcopy(mine)(IMAGES)
    with fused_batch_norms(mine).used():
        torch.testing.assert_close(mine(IMAGES), expected)
    assert slopes == [1.0]


@pytest.mark.parametrize("between", ["norm", "activation"])
def test_where_somebody_looks_in_between_the_activation_stays(slopes, between):
    mine = nn.Sequential(nn.BatchNorm2d(1), nn.ReLU())
    seen = []
    if between == "norm":
        mine[0].register_forward_hook(lambda _, __, output: seen.append(output))
    if between == "activation":
        mine[1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    fused = fused_batch_norms(mine)
    with fused.used():
        mine(IMAGES)
    assert slopes == [1.0]
    assert (seen[0] < 0).any()
    assert fused.describe() == {"batch norms": "1 by batch_norm_act"}


@pytest.mark.parametrize(("between", "how"), [("norm", [1.0]), ("sum", ["sum 1.0"])])
def test_where_somebody_looks_before_or_behind_a_sum(slopes, between, how):
    mine, seen = Added(SUMS["norm + x"]), []
    if between == "norm":
        mine.norms[1].register_forward_hook(lambda _, __, output: seen.append(output))
    if between == "sum":
        mine.relu.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    expected = copy.deepcopy(mine)(IMAGES)
    right = seen.pop()
    with fused_batch_norms(mine).used():
        torch.testing.assert_close(mine(IMAGES), expected)
    assert slopes[1:] == how
    torch.testing.assert_close(seen[-1], right)


def test_an_activation_that_another_network_holds_too_still_activates_there():
    shared = nn.ReLU()
    mine, other = nn.Sequential(nn.BatchNorm2d(1), shared), nn.Sequential(shared)
    with fused_batch_norms(mine).used():
        assert torch.equal(other(IMAGES), IMAGES.relu())
        assert (mine(IMAGES) >= 0).all()
        assert torch.equal(other(IMAGES), IMAGES.relu())


def test_a_hook_that_removes_itself_leaves_the_activation():
    mine = nn.Sequential(nn.BatchNorm2d(1), nn.ReLU())
    expected = copy.deepcopy(mine)(IMAGES)
    hook = mine[0].register_forward_hook(lambda *_: hook.remove())
    with fused_batch_norms(mine).used():
        torch.testing.assert_close(mine(IMAGES), expected)
        torch.testing.assert_close(mine(IMAGES), expected)


class ReadInTraining(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.relu = nn.BatchNorm2d(1), nn.ReLU()

    def forward(self, x):
        h = self.norm(x)
        return self.relu(h) + h if self.training else self.relu(h)


class Untraceable(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.BatchNorm2d(1), nn.ReLU())

    def forward(self, x):
        assert x.shape[1] == 1
        h = self.layers[0](x)
        return self.layers[1](h) + h


@pytest.mark.parametrize("made", [ReadInTraining, Untraceable])
def test_a_norms_output_that_is_read_where_tracing_did_not_see_it(made):
    mine = made().eval()
    fused = fused_batch_norms(mine)
    mine.train()
    expected = copy.deepcopy(mine)(IMAGES)
    with fused.used():
        torch.testing.assert_close(mine(IMAGES), expected)


def test_hooks_do_not_run_while_pairs_are_sought(slopes):
    mine = nn.Sequential(nn.BatchNorm2d(1), nn.ReLU(), nn.Conv2d(1, 1, 1))
    mine[2].register_forward_pre_hook(lambda _, args: print(args[0].data_ptr()))  # a symbol has none
    fused = fused_batch_norms(mine)
    with fused.used():
        mine(IMAGES)
    assert slopes == [0.0]


def test_features_of_the_wrong_kind_are_torchs_error():
    mine = nn.BatchNorm2d(8)
    with fused_batch_norms(mine).used(), pytest.raises(ValueError, match="expected 4D input"):
        mine(torch.randn(4, 8))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.relu, self.convolution = nn.BatchNorm2d(1), nn.ReLU(), nn.Conv2d(1, 4, 1)

    def forward(self, x):
        return F.relu(self.convolution(self.relu(self.norm(x))))


class Checkpointed(nn.Module):
    """Its activations are computed again in backward."""

    def __init__(self):
        super().__init__()
        self.block = Block()

    def forward(self, x):
        if torch.is_grad_enabled():
            return checkpoint(self.block, x, use_reentrant=False)
        return self.block(x)


def test_a_checkpointed_network_computes_the_same_again(slopes):
    mine = Checkpointed()
    tap = Tap("block", 0, (4, 8, 8))
    with fused_batch_norms(mine).used():
        with Taps(mine, [tap]).record() as (features):
            out = mine(IMAGES)
        out.sum().backward()  # torch compares what both forwards kept
    assert features[0] is not None
    assert slopes == [1.0, 1.0]
    with fused_batch_norms(mine).used(), torch.no_grad():
        mine(IMAGES)  # not checkpointed
    assert slopes[2:] == [0.0]


def test_networks_that_name_their_layers_argument():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.relu = nn.BatchNorm2d(1), nn.ReLU()

        def forward(self, x):
            return self.relu(input=self.norm(input=x))

    mine = Named()
    expected = copy.deepcopy(mine)(IMAGES)
    with fused_batch_norms(mine).used():
        torch.testing.assert_close(mine(IMAGES), expected)


def test_a_norm_of_its_own_kind_is_left_alone(slopes):
    class Own(nn.BatchNorm2d):
        def forward(self, x):
            return super().forward(x) + 1

    mine = nn.Sequential(Own(1), nn.ReLU())
    expected = copy.deepcopy(mine)(IMAGES)
    with fused_batch_norms(mine).used():
        assert torch.equal(mine(IMAGES), expected)
    assert not slopes
