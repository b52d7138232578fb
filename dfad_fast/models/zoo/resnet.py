"""Residual networks (He et al. 2016, arXiv 1512.03385), with a stem for small images or for ImageNet's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dfad_fast.models.zoo.initial import initialize_for_relu
from dfad_fast.models.zoo.stages import Block, residual_stages


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; if stride or width change, ``shortcut`` creates it: a 1x1 projection."""

    def __init__(
        self, channels_in: int, channels_out: int, stride: int, shortcut: Block | None = None
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.shortcut = _shortcut(channels_in, channels_out, stride, shortcut or _projection)
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Features [B, channels_in, H, W] to [B, channels_out, H / stride, W / stride], rounded up."""
        residual = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        return self.relu2(residual + self.shortcut(x))


class Bottleneck(nn.Module):
    """A 1x1 convolution to a quarter of the width, a 3x3 one at that width and a 1x1 one back, and a shortcut.

    The 3x3 convolution has the stride, as in all implementations after the paper's.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        narrow = channels_out // 4
        self.conv1 = nn.Conv2d(channels_in, narrow, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(narrow)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(narrow, narrow, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(narrow)
        self.relu2 = nn.ReLU()
        self.conv3 = nn.Conv2d(narrow, channels_out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels_out)
        self.shortcut = _shortcut(channels_in, channels_out, stride, _projection)
        self.relu3 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Features [B, channels_in, H, W] to [B, channels_out, H / stride, W / stride], rounded up."""
        residual = self.relu2(self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x))))))
        return self.relu3(self.bn3(self.conv3(residual)) + self.shortcut(x))


def _shortcut(channels_in: int, channels_out: int, stride: int, changing: Block) -> nn.Module:
    if stride == 1 and channels_in == channels_out:
        return nn.Identity()
    return changing(channels_in, channels_out, stride)


def _projection(channels_in: int, channels_out: int, stride: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 1, stride, bias=False), nn.BatchNorm2d(channels_out)
    )


class ResNet(nn.Module):
    """Stages of blocks; each stage after the first halves the side.

    ``blocks[i]`` blocks of ``widths[i]`` channels make stage i. The stem is a 3x3 convolution that keeps the side (the
    CIFAR form) or, with ``imagenet_stem``, a 7x7 one and a max-pool that reduce it to a quarter.

    Maps images [B, C, H, W] of any side to logits [B, classes].
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        classes: int,
        blocks: Sequence[int],
        widths: Sequence[int],
        block: type[BasicBlock] | type[Bottleneck] = BasicBlock,
        imagenet_stem: bool = False,
    ) -> None:
        super().__init__()
        channels = widths[0] // 4 if block is Bottleneck else widths[0]
        self.stem = _stem(image_shape[0], channels, imagenet_stem)
        self.stages = residual_stages(block, blocks, widths, channels)
        self.classifier = nn.Linear(widths[-1], classes)
        initialize_for_relu(self)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, classes] of images [B, C, H, W]."""
        features = self.stages(self.stem(images))
        return self.classifier(torch.mean(features, dim=(2, 3)))


def _stem(channels_in: int, channels_out: int, imagenet: bool) -> nn.Sequential:
    kernel, stride = (7, 2) if imagenet else (3, 1)
    layers: list[nn.Module] = [
        nn.Conv2d(channels_in, channels_out, kernel, stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
    ]
    if imagenet:
        layers.append(nn.MaxPool2d(3, stride=2, padding=1))
    return nn.Sequential(*layers)
