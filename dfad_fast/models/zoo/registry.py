"""Networks by name, for the command line."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from dfad_fast.errors import unknown_name
from dfad_fast.models.zoo.lenet import LeNet5
from dfad_fast.models.zoo.mobilenet import MobileNetV2
from dfad_fast.models.zoo.resnet import Bottleneck, ResNet
from dfad_fast.models.zoo.resnet_plain import PlainResNet
from dfad_fast.models.zoo.vgg import VGG11
from dfad_fast.models.zoo.wide_resnet import WideResNet

Factory = Callable[[tuple[int, int, int], int], nn.Module]

_BASIC_WIDTHS = (64, 128, 256, 512)
_BOTTLENECK_WIDTHS = (256, 512, 1024, 2048)

NETWORKS: dict[str, Factory] = {
    "lenet5": LeNet5,
    "lenet5-half": partial(LeNet5, widths=(3, 8, 60, 42)),
    # Residual nets for digits (8x8) and 28 or 32 pixels, named by the width of their first stage.
    "resnet8-w32": partial(ResNet, blocks=(1, 1, 1), widths=(32, 64, 128)),
    "resnet8-w16": partial(ResNet, blocks=(1, 1, 1), widths=(16, 32, 64)),
    "resnet10-w32": partial(ResNet, blocks=(1, 1, 1, 1), widths=(32, 64, 128, 256)),
    "resnet10-w16": partial(ResNet, blocks=(1, 1, 1, 1), widths=(16, 32, 64, 128)),
    "resnet10-w8": partial(ResNet, blocks=(1, 1, 1, 1), widths=(8, 16, 32, 64)),
    # The CIFAR nets of He et al. 2016.
    "resnet20": partial(ResNet, blocks=(3, 3, 3), widths=(16, 32, 64)),
    "resnet20-w8": partial(ResNet, blocks=(3, 3, 3), widths=(8, 16, 32)),
    "resnet32": partial(ResNet, blocks=(5, 5, 5), widths=(16, 32, 64)),
    "resnet56": partial(ResNet, blocks=(9, 9, 9), widths=(16, 32, 64)),
    # The same with the published parameter-free shortcuts, and the module names of a widely used implementation.
    "resnet20-a": partial(PlainResNet, blocks=3),
    "resnet20-a-w8": partial(PlainResNet, blocks=3, widths=(8, 16, 32)),
    "resnet32-a": partial(PlainResNet, blocks=5),
    "resnet44-a": partial(PlainResNet, blocks=7),
    "resnet56-a": partial(PlainResNet, blocks=9),
    "resnet110-a": partial(PlainResNet, blocks=18),
    # The paper's ImageNet nets, with the CIFAR stem and as published.
    "resnet18": partial(ResNet, blocks=(2, 2, 2, 2), widths=_BASIC_WIDTHS),
    "resnet34": partial(ResNet, blocks=(3, 4, 6, 3), widths=_BASIC_WIDTHS),
    "resnet50": partial(ResNet, blocks=(3, 4, 6, 3), widths=_BOTTLENECK_WIDTHS, block=Bottleneck),
    "resnet18-imagenet": partial(ResNet, blocks=(2, 2, 2, 2), widths=_BASIC_WIDTHS, imagenet_stem=True),
    "resnet34-imagenet": partial(ResNet, blocks=(3, 4, 6, 3), widths=_BASIC_WIDTHS, imagenet_stem=True),
    "resnet50-imagenet": partial(
        ResNet, blocks=(3, 4, 6, 3), widths=_BOTTLENECK_WIDTHS, block=Bottleneck, imagenet_stem=True
    ),
    # Named by depth and by the factor on the stages' 16, 32 and 64 channels.
    "wrn-16-1": partial(WideResNet, depth=16, width=1),
    "wrn-16-2": partial(WideResNet, depth=16, width=2),
    "wrn-40-1": partial(WideResNet, depth=40, width=1),
    "wrn-40-2": partial(WideResNet, depth=40, width=2),
    "vgg11-bn": VGG11,
    "mobilenet-v2": MobileNetV2,
}


def create_network(name: str, image_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Builds the network called ``name`` for images [B, *image_shape] and logits [B, classes].

    Raises UsageError for an unknown name, or an image shape that the network cannot take.
    """
    if name not in NETWORKS:
        raise unknown_name("network", name, NETWORKS)
    return NETWORKS[name](image_shape, classes)
