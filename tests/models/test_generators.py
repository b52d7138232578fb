import pytest
import torch
from torch import nn

from dfad_fast.errors import UsageError
from dfad_fast.models import (
    ConditionalGenerator,
    DAFLGenerator,
    DCGANGenerator,
    DFADGenerator,
    ZSKTGenerator,
)

GENERATORS = [DFADGenerator, ZSKTGenerator, DAFLGenerator, DCGANGenerator]


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (1, 28, 28), (3, 30, 30), (2, 7, 13), (1, 1, 1)])
@pytest.mark.parametrize("make", GENERATORS)
def test_generator_makes_normalised_images_of_any_side(make, shape):
    images = make(shape, latent_dim=16, width=8)(torch.randn(64, 16))
    assert images.shape == (64, *shape)
    if shape != (1, 1, 1):
        torch.testing.assert_close(images.mean((0, 2, 3)), torch.zeros(shape[0]), atol=1e-5, rtol=0)
        variance = images.var((0, 2, 3), correction=0)
        torch.testing.assert_close(variance, torch.ones(shape[0]), atol=5e-2, rtol=0)


@pytest.mark.parametrize("make", GENERATORS)
def test_every_parameter_of_a_generator_is_trained(make):
    generator = make((3, 20, 12), latent_dim=16, width=8)
    (generator(torch.randn(8, 16)) * torch.randn(3, 20, 12)).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in generator.parameters())


@pytest.mark.parametrize("make", [ZSKTGenerator, DAFLGenerator])
def test_fused_blocks_give_what_the_layers_give(make):
    fused = make((3, 16, 16), latent_dim=16, width=8)
    plain = make((3, 16, 16), latent_dim=16, width=8, fused=False)
    plain.load_state_dict(fused.state_dict())
    noise = torch.randn(16, 16)
    torch.testing.assert_close(fused(noise), plain(noise), rtol=1e-4, atol=1e-4)
    for a, b in zip(fused.buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_the_generator_has_its_published_form():
    generator = DFADGenerator((3, 32, 32), latent_dim=256, width=128)
    convolutions = [m for m in generator.modules() if isinstance(m, nn.Conv2d)]
    assert [(m.in_channels, m.out_channels) for m in convolutions] == [(128, 128), (128, 64), (64, 3)]
    assert generator.project[0].out_features == 128 * 8 * 8


def test_its_relatives_differ_where_theirs_differ():
    zskt, dafl = ZSKTGenerator((3, 32, 32)), DAFLGenerator((3, 32, 32))
    assert not any(isinstance(m, nn.Tanh) for m in zskt.modules())
    assert zskt.upsample[10].weight.shape == (3,)
    norms = [m for m in dafl.modules() if isinstance(m, nn.BatchNorm2d)]
    assert [m.eps for m in norms] == [1e-5, 0.8, 0.8, 1e-5]


def test_the_large_generator_has_its_published_form():
    generator = DCGANGenerator((3, 64, 64), latent_dim=256)
    assert generator.project[0].out_features == 512 * 4 * 4
    transposed = [m for m in generator.modules() if isinstance(m, nn.ConvTranspose2d)]
    assert [(m.in_channels, m.out_channels) for m in transposed] == [
        (512, 256),
        (256, 128),
        (128, 64),
        (64, 64),
    ]


class Echo(nn.Module):
    def forward(self, vectors):
        return vectors


def test_a_label_reaches_the_generator_before_the_noise():
    generator = ConditionalGenerator(Echo(), classes=3)
    noise, labels = torch.randn(4, 5), torch.tensor([2, 0, 1, 1])
    vectors = generator(noise, labels)
    assert torch.equal(vectors[:, :3], torch.eye(3)[labels])
    assert torch.equal(vectors[:, 3:], noise)


def test_without_labels_the_noise_says_them_evenly():
    generator = ConditionalGenerator(Echo(), classes=4)
    noise = torch.randn(8000, 5, generator=torch.Generator().manual_seed(0))
    noise[0, 0] = 40.0  # its probability rounds to 1
    labels = generator(noise)[:, :4].argmax(1)
    assert labels[0] == 3
    assert torch.equal(labels, generator.labels_of(noise))
    share = torch.bincount(labels, minlength=4) / len(labels)
    torch.testing.assert_close(share, torch.full((4,), 0.25), atol=0.02, rtol=0)


def test_a_conditional_generator_makes_images():
    generator = ConditionalGenerator(DFADGenerator((1, 8, 8), latent_dim=13, width=8), classes=3)
    assert generator(torch.randn(4, 10)).shape == (4, 1, 8, 8)
    with pytest.raises(UsageError, match="at least 2 classes, got 1"):
        ConditionalGenerator(Echo(), classes=1)
