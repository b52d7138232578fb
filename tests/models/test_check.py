import pytest
import torch
from torch import nn

from dfad_fast.errors import UsageError
from dfad_fast.models.check import as_image_shape, count_classes, depends_on_batch, prefer_channels_last


def test_counting_classes_leaves_the_network_as_it_was():
    network = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(), nn.Flatten(), nn.Linear(72, 5)
    )
    network[1].eval()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    assert count_classes(network, (1, 8, 8), "student", modes=(True, False)) == 5
    assert torch.rand(1) == expected
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert (network.training, network[1].training, network[2].training) == (True, False, True)


def test_a_network_that_answers_otherwise_in_training_is_refused():
    class Auxiliary(nn.Module):
        def forward(self, x):
            logits = x.flatten(1)[:, :3]
            return (logits, logits) if self.training else logits

    assert count_classes(Auxiliary(), (1, 8, 8), "teacher") == 3
    with pytest.raises(UsageError, match="it gave tuple"):
        count_classes(Auxiliary(), (1, 8, 8), "student", modes=(True, False))


def test_channels_last_is_for_networks_that_run_in_it():
    class Views(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(144, 3)

        def forward(self, x):
            x = self.conv(x)
            return self.head(x.view(x.size(0), -1))

    images = torch.randn(2, 3, 8, 8)
    views, flattens = Views(), nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 3))
    expected = flattens(images)
    for network in (views, flattens):
        prefer_channels_last(network, images)
        network(images)
    assert views.conv.weight.is_contiguous()
    assert flattens[0].weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(flattens(images), expected)


@pytest.mark.parametrize("shape", [(8, 8), (1, 8, 0), (1, -8, 8), (1, 2, 3, 4)])
def test_shapes_that_are_none_are_refused(shape):
    with pytest.raises(UsageError, match="CHANNELS,HEIGHT,WIDTH"):
        as_image_shape(shape)


@pytest.mark.parametrize(
    ("layer", "expected"),
    [(nn.ReLU(), False), (nn.GroupNorm(1, 2), False), (nn.BatchNorm2d(2), True), (nn.Dropout(), True)],
)
def test_whether_an_answer_depends_on_the_rest_of_the_batch(layer, expected):
    network = nn.Sequential(nn.Conv2d(1, 2, 3), layer, nn.Flatten(), nn.Linear(72, 5)).eval()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    state = torch.get_rng_state()
    assert depends_on_batch(network, (1, 8, 8)) == expected
    assert torch.equal(state, torch.get_rng_state())
    assert not network.training
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


def test_batch_norm_before_a_head_that_answers_0_counts_too():
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(72, 5))
    nn.init.zeros_(network[3].weight)
    assert depends_on_batch(network, (1, 8, 8))
