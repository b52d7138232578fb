import pytest
import torch
from torch import nn

from dfad_fast.errors import UsageError
from dfad_fast.models.reading.check import as_image_shape, count_classes, depends_on_batch, image_dtype


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


def test_a_network_without_logits_is_refused():
    class Features(nn.Module):
        def forward(self, x):
            return (x, x.mean()) if self.training else x.flatten(1)[:, :3]

    assert count_classes(Features(), (1, 8, 8), "teacher") == 3
    with pytest.raises(UsageError, match=r"to logits \[B, classes\]; for 2 images it returned tuple"):
        count_classes(Features(), (1, 8, 8), "student", modes=(True, False))


def test_one_logit_is_refused_with_what_to_do():
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 1))
    with pytest.raises(UsageError, match=r"answers with 1 logit; at least 2 classes are needed.*torch\.cat"):
        count_classes(network, (1, 8, 8), "teacher")


@pytest.mark.parametrize("dtype", [torch.float16, torch.complex64])
def test_images_have_the_type_of_most_weights(dtype):
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    network.first = nn.Parameter(torch.zeros(2, dtype=dtype))
    assert image_dtype(network) == torch.float32
    assert image_dtype(network.double()) == torch.float64
    assert image_dtype(nn.Flatten()) == torch.float32


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


def test_a_network_that_takes_one_number_of_images_only_is_taken_to_depend_on_them():
    class Fixed(nn.Module):
        def forward(self, x):
            return x.view(8, -1)[:, :3]

    assert depends_on_batch(Fixed(), (1, 8, 8))
