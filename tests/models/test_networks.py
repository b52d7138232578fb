import pytest
import torch

from dfad_fast.errors import UsageError
from dfad_fast.models import NETWORKS, DFADGenerator, create_network


@pytest.mark.parametrize("name", sorted(set(NETWORKS) - {"resnet18", "resnet34"}))
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32)])
def test_network_maps_images_to_logits_with_gradients_everywhere(name, shape):
    network = create_network(name, shape, 7)
    logits = network(torch.randn(4, *shape))
    logits.square().sum().backward()
    assert logits.shape == (4, 7)
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


@pytest.mark.parametrize(("name", "millions"), [("resnet18", 11.17), ("resnet34", 21.28)])
def test_cifar_resnets_have_their_published_size(name, millions):
    network = create_network(name, (3, 32, 32), 10)
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.01)


@pytest.mark.parametrize(
    ("name", "parameters"), [("lenet5", 61_706), ("lenet5-half", 15_738), ("resnet20", 272_474)]
)
def test_small_networks_have_their_known_size(name, parameters):
    shape = (3, 32, 32) if name == "resnet20" else (1, 32, 32)
    count = sum(p.numel() for p in create_network(name, shape, 10).parameters())
    # ResNet-20 is 269,722 (He et al. 2016 and its option A) plus two 1x1 projections with batch norm.
    projections = 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64
    assert count == (269_722 + projections if name == "resnet20" else parameters)


@pytest.mark.parametrize(
    ("teacher", "student"),
    [
        ("lenet5", "lenet5-half"),
        ("resnet8-w32", "resnet8-w16"),
        ("resnet10-w16", "resnet10-w8"),
        ("resnet20", "resnet20-w8"),
    ],
)
def test_half_the_width_is_about_a_quarter_of_the_parameters(teacher, student):
    def size(name):
        return sum(p.numel() for p in create_network(name, (1, 28, 28), 10).parameters())

    assert 0.23 < size(student) / size(teacher) < 0.28


def test_lenet_refuses_other_sides():
    with pytest.raises(UsageError, match="28x28 or 32x32 pixels, got 8x8"):
        create_network("lenet5", (1, 8, 8), 10)


def test_unknown_network_names_the_nearest():
    with pytest.raises(UsageError, match=r"did you mean .*'resnet18'"):
        create_network("resent18", (3, 32, 32), 10)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (1, 28, 28), (3, 30, 30), (2, 7, 13), (1, 1, 1)])
def test_generator_makes_normalised_images_of_any_side(shape):
    images = DFADGenerator(shape, latent_dim=16, width=8)(torch.randn(64, 16))
    assert images.shape == (64, *shape)
    if shape != (1, 1, 1):
        torch.testing.assert_close(images.mean((0, 2, 3)), torch.zeros(shape[0]), atol=1e-5, rtol=0)
        torch.testing.assert_close(
            images.var((0, 2, 3), correction=0), torch.ones(shape[0]), atol=1e-2, rtol=0
        )


def test_generator_has_its_published_form():
    generator = DFADGenerator((3, 32, 32), latent_dim=256, width=128)
    convolutions = [m for m in generator.modules() if isinstance(m, torch.nn.Conv2d)]
    assert [(m.in_channels, m.out_channels) for m in convolutions] == [(128, 128), (128, 64), (64, 3)]
    assert generator.project[0].out_features == 128 * 8 * 8
