import pytest
import torch

from dfad_fast.errors import UsageError
from dfad_fast.models import NETWORKS, WideResNet, create_network
from dfad_fast.models.zoo.resnet_plain import PaddedShortcut

# What a convolution costs grows with its side; networks of one family run the same code.
SHAPES = {"large": [(3, 21, 18)], "small": [(1, 28, 28), (3, 32, 32)]}
LARGE = {
    name
    for name in NETWORKS
    if name.startswith(("resnet18", "resnet34", "resnet50", "resnet44-a", "resnet110-a", "vgg", "mobile"))
}


@pytest.mark.parametrize(
    ("name", "shape"),
    [(name, shape) for name in NETWORKS for shape in SHAPES["large" if name in LARGE else "small"]],
)
def test_network_maps_images_to_logits_with_gradients_everywhere(name, shape):
    network = create_network(name, shape, 7)
    images = torch.randn(4, *shape, requires_grad=True)
    logits = network(images)
    logits.square().sum().backward()
    assert logits.shape == (4, 7)
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())
    assert images.grad.abs().sum() > 0


# On 32x32 RGB with 10 classes, or as "-imagenet" with 1000; LeNet on one channel.
# ResNet-20, 32 and 56 are the published ones (He et al. 2016, with its option A: "-a") plus two 1x1 projections with
# batch norm; VGG-11 is torchvision's features without the convolutions' biases, and a linear layer.
PROJECTIONS = 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64
PARAMETERS = {
    "lenet5": 61_706,
    "lenet5-half": 15_738,
    "resnet20-a": 269_722,
    "resnet32-a": 464_154,
    "resnet44-a": 658_586,
    "resnet56-a": 853_018,
    "resnet110-a": 1_727_962,
    "resnet20": 269_722 + PROJECTIONS,
    "resnet32": 464_154 + PROJECTIONS,
    "resnet56": 853_018 + PROJECTIONS,
    "resnet18": 11_173_962,
    "resnet34": 21_282_122,
    "resnet50": 23_520_842,
    "resnet18-imagenet": 11_689_512,
    "resnet34-imagenet": 21_797_672,
    "resnet50-imagenet": 25_557_032,
    "wrn-16-1": 175_066,
    "wrn-16-2": 691_674,
    "wrn-40-1": 563_930,
    "wrn-40-2": 2_243_546,
    "vgg11-bn": 9_225_984 - 2_752 + 512 * 10 + 10,
    "mobilenet-v2": 3_504_872 - 1_281_000 + 1280 * 10 + 10,
}


@pytest.mark.parametrize(("name", "parameters"), PARAMETERS.items())
def test_networks_have_their_published_size(name, parameters):
    shape = (1, 32, 32) if name.startswith("lenet") else (3, 32, 32)
    with torch.device("meta"):
        network = create_network(name, shape, 1000 if name.endswith("imagenet") else 10)
    assert sum(p.numel() for p in network.parameters()) == parameters


def test_the_shortcut_without_parameters_takes_every_second_pixel_between_zeros():
    x = torch.arange(2 * 3 * 4.0).reshape(1, 2, 3, 4) + 1
    widened = PaddedShortcut(2, 5, 2)(x)
    assert torch.equal(widened[:, 1:3], x[:, :, ::2, ::2])
    assert widened.shape == (1, 5, 2, 2)
    assert widened[:, [0, 3, 4]].count_nonzero() == 0


def test_a_wide_resnet_refuses_other_depths():
    with pytest.raises(UsageError, match="6n \\+ 4, got 18"):
        WideResNet((3, 32, 32), 10, depth=18, width=1)


@pytest.mark.parametrize(
    ("teacher", "student"),
    [
        ("lenet5", "lenet5-half"),
        ("resnet8-w32", "resnet8-w16"),
        ("resnet10-w16", "resnet10-w8"),
        ("resnet20", "resnet20-w8"),
        ("resnet20-a", "resnet20-a-w8"),
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
