import pytest
import torch
from torch import nn

from dfad_fast.errors import UsageError
from dfad_fast.models import (
    ConditionalGenerator,
    DAFLGenerator,
    DCGANGenerator,
    DFADGenerator,
    NoisyGenerator,
    PixelGenerator,
    ZSKTGenerator,
)

GENERATORS = [DFADGenerator, ZSKTGenerator, DAFLGenerator, DCGANGenerator]


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (1, 28, 28), (3, 30, 30), (2, 7, 13), (1, 1, 1)])
@pytest.mark.parametrize("make", GENERATORS)
def test_generator_makes_normalized_images_of_any_side(make, shape):
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


@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_noise_is_changed_so_that_it_says_the_labels(classes):
    generator = ConditionalGenerator(nn.Identity(), classes)
    noise = 2.0 * torch.randn(5000, 3, generator=torch.Generator().manual_seed(0))
    noise[0, 0] = 40.0
    labels, places = torch.randint(classes, (5000,)), torch.arange(5000)
    told = generator.noise_for(noise, labels, places)
    assert torch.equal(generator.labels_of(told), labels)
    assert torch.equal(told[:, 1:], noise[:, 1:])
    assert told.isfinite().all()


def test_changed_noise_is_normally_distributed_too():
    noise, labels = torch.randn(20000, 1), torch.arange(20000) % 4
    told = ConditionalGenerator(nn.Identity(), 4).noise_for(noise, labels, labels)
    assert told.mean().item() == pytest.approx(0.0, abs=0.05)
    assert told.std().item() == pytest.approx(1.0, abs=0.05)


def test_each_noisy_layer_makes_each_class_of_its_own():
    vectors = torch.randn(3, 5)
    noisy = NoisyGenerator(Echo(), vectors, width=4, layers=2)
    labels, places = torch.tensor([0, 1, 2, 2, 0, 1, 1]), torch.arange(7)
    noise = noisy.noise_for(torch.randn(7, 4), labels, places)
    layers = [0, 0, 0, 1, 1, 1, 0]
    assert noisy.layers_of(noise).tolist() == layers
    made = noisy(noise)
    normalized = nn.functional.batch_norm(vectors[labels], None, None, training=True)
    for image, vector, layer in zip(made, normalized, layers, strict=True):
        torch.testing.assert_close(image, noisy.noisy_weight[layer] @ vector, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(made[1], made[6])
    (made * torch.randn(7, 4)).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in noisy.parameters())


@pytest.mark.parametrize("vectors", [torch.zeros(3), torch.zeros(3, 0), torch.full((3, 2), float("nan"))])
def test_vectors_that_are_none_are_refused(vectors):
    with pytest.raises(UsageError, match=r"class vectors must be finite and \[classes, D\]"):
        NoisyGenerator(Echo(), vectors, width=4, layers=2)


@pytest.mark.parametrize("fused", [False, True])
def test_pixels_come_out_normalized(fused):
    mean, std = torch.full((2, 1, 1), 0.25), torch.full((2, 1, 1), 0.5)
    generator = PixelGenerator((2, 8, 8), 6, 8, fused, (mean, std))
    pixels = generator(100.0 * torch.randn(64, 6)) * std + mean
    assert pixels.min() >= 0
    assert pixels.max() <= 1
    assert pixels.std() > 0.03
    unknown = PixelGenerator((2, 8, 8), 6, 8, fused)(torch.randn(64, 6))
    torch.testing.assert_close(unknown.mean((0, 2, 3)), torch.zeros(2), atol=1e-4, rtol=0)


def test_a_conditional_generator_makes_images():
    generator = ConditionalGenerator(DFADGenerator((1, 8, 8), latent_dim=13, width=8), classes=3)
    assert generator(torch.randn(4, 10)).shape == (4, 1, 8, 8)
    with pytest.raises(UsageError, match="at least 2 classes, got 1"):
        ConditionalGenerator(Echo(), classes=1)
