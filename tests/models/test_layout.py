"""fitted: the layout, and what else a network needs around it, found by trying."""

import collections

import pytest
import torch
from torch import nn

from dfad_fast.errors import UsageError
from dfad_fast.models.surgery.adapting import Needs, adapted
from dfad_fast.models.surgery.layout import fitted
from dfad_fast.models.surgery.quick_layers import QuickLayers

SHAPE = (3, 8, 8)


def kernels(network):
    return QuickLayers(network, norms=False, alone=True).used()


class Net(nn.Module):
    """Two convolutions, the second one by Winograd's filtering, and a head on what ``flatten`` makes of them."""

    def __init__(self, flatten=lambda x: x.flatten(1), channels=3):
        super().__init__()
        self.first, self.second = nn.Conv2d(channels, 32, 3, padding=1), nn.Conv2d(32, 32, 3, padding=1)
        self.head = nn.Linear(32 * 64, 4)
        self.flatten = flatten

    def forward(self, x):
        return self.head(self.flatten(self.second(self.first(x).relu()).relu()))


def by_view(x):
    return x.view(x.size(0), -1)


def by_assertion(x):
    assert x.is_contiguous(), "contiguous features only"
    return x.flatten(1)


def by_memory(x):
    """Right for contiguous features; of others it silently reads the values in another order."""
    return x.as_strided((x.size(0), x[0].numel()), (x[0].numel(), 1))


class WrongBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.right = x.is_contiguous()
        return x.flatten(1).clone()

    @staticmethod
    def backward(ctx, grad):
        return grad.view(len(grad), 32, 8, 8) * (1 if ctx.right else -1)


def test_a_usual_network_is_itself_and_gets_channels_last():
    network = Net()
    expected = network(torch.ones(2, *SHAPE))
    found, needs = fitted(network, SHAPE, "student", 16, trained=True, kernels=kernels)
    assert found is network
    assert needs == Needs()
    assert network.first.weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(network(torch.ones(2, *SHAPE)), expected)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("flatten", [by_view, by_assertion, by_memory])
def test_a_network_that_needs_the_usual_layout_gets_it(flatten, channels):
    network = Net(flatten, channels)
    images = torch.randn(4, channels, 8, 8)
    expected = network(images)
    strides = network.first.weight.stride()
    found, needs = fitted(network, (channels, 8, 8), "student", 4, trained=True, kernels=kernels)
    assert needs == Needs(contiguous=True)
    assert network.first.weight.stride() == strides
    torch.testing.assert_close(found(images.contiguous(memory_format=torch.channels_last)), expected)
    assert list(found.state_dict()) == list(network.state_dict())
    assert found.head.weight is network.head.weight


def test_the_backward_pass_is_compared_too():
    assert fitted(Net(WrongBackward.apply), SHAPE, "teacher", 4)[1] == Needs(contiguous=True)


def test_the_kernels_are_part_of_the_trial():
    """Alone, the network keeps the usual layout of these images of one pixel; Winograd's kernel gives channels_last."""
    assert fitted(Net(by_view), SHAPE, "teacher", 4, kernels=kernels)[1].contiguous


def test_every_image_of_a_batch_is_tried():
    def up_to_ten(x):
        return by_view(x) if len(x) > 10 else x.flatten(1)

    assert not fitted(Net(up_to_ten), SHAPE, "teacher", 8)[1].contiguous
    assert fitted(Net(up_to_ten), SHAPE, "teacher", 12)[1].contiguous


def test_a_batch_that_no_layout_makes_right_is_refused():
    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(192, 3)

        def forward(self, x):
            return self.head(x.flatten(1)) if len(x) <= 8 else self.head(x.reshape(8, -1))

    with pytest.raises(
        UsageError, match=r"the student cannot take a batch of 16 images \[3, 8, 8\]: .*batch size"
    ):
        fitted(Fixed(), SHAPE, "student", 16)


class InPlace(Net):
    def forward(self, x):
        return super().forward(x.sub_(0.5).div_(0.25))


def test_a_network_that_works_on_its_images_gets_copies():
    network = InPlace()
    found, needs = fitted(network, SHAPE, "teacher", 4)
    assert needs == Needs(own_images=True)
    images = torch.randn(4, *SHAPE)
    kept = images.clone()
    answer = found(images)
    assert torch.equal(images, kept)
    torch.testing.assert_close(answer, network(images))


Named = collections.namedtuple("Named", "features logits")
ANSWERS = {
    "mapping": lambda x, y: {"features": x.mean((2, 3)), "logits": y},
    "tuple": lambda x, y: (x, y, y + 1),
    "named tuple": lambda x, y: Named(x.mean((2, 3)), y),
    "object": lambda x, y: type(
        "Output", (), {"__init__": lambda s: s.__dict__.update(hidden=x, logits=y)}
    )(),
    "of a convolution": lambda x, y: y[:, :, None, None],
    "of a convolution, with features": lambda x, y: {
        "features": x.mean((2, 3), keepdim=True),
        "logits": y[:, :, None, None],
    },
}


@pytest.mark.parametrize("kind", ANSWERS)
@pytest.mark.parametrize("training_only", [False, True])
def test_logits_are_taken_out_of_an_answer(kind, training_only):
    class Answering(Net):
        def forward(self, x):
            y = super().forward(x)
            return y if training_only and not self.training else ANSWERS[kind](x, y)

    network = Answering()
    found, needs = fitted(network, SHAPE, "student", 4, trained=True)
    assert needs == Needs(logits=True)
    images = torch.randn(2, *SHAPE)
    for mode in (True, False):
        torch.testing.assert_close(found.train(mode)(images), Net.forward(network, images))


def test_torchscript_is_wrapped_and_its_weights_keep_their_names():
    network = torch.jit.script(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 3)))
    around = adapted(network, Needs(contiguous=True))
    images = torch.randn(2, *SHAPE)
    assert torch.equal(around(images.contiguous(memory_format=torch.channels_last)), network(images))
    assert list(around.state_dict()) == list(network.state_dict())
    before = around(images)
    around.load_state_dict({key: value + 1 for key, value in around.state_dict().items()})
    assert not torch.equal(around(images), before)
    assert torch.equal(around(images), network(images))
