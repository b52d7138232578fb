"""Wide residual networks with pre-activation (Zagoruyko and Komodakis 2016, arXiv 1605.07146)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dfad_fast.errors import UsageError
from dfad_fast.models.zoo.initial import initialize_for_relu
from dfad_fast.models.zoo.stages import residual_stages


class PreActivationBlock(nn.Module):
    """Batch norm, ReLU and 3x3 convolution, twice, and a shortcut.

    If stride or width change, the shortcut is a 1x1 convolution of the activated input, otherwise the input itself.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels_in)
        self.relu1 = nn.ReLU()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.relu2 = nn.ReLU()
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.shortcut: nn.Module | None = None
        if stride != 1 or channels_in != channels_out:
            self.shortcut = nn.Conv2d(channels_in, channels_out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Features [B, channels_in, H, W] to [B, channels_out, H / stride, W / stride], rounded up."""
        activated = self.relu1(self.bn1(x))
        kept = x if self.shortcut is None else self.shortcut(activated)
        return self.conv2(self.relu2(self.bn2(self.conv1(activated)))) + kept


class WideResNet(nn.Module):
    """WRN-``depth``-``width``: three stages of 16, 32 and 64 times ``width`` channels (Table 1), without dropout.

    A stage's pre-activation is its sum after the next batch norm: the next stage's first one, or the last.

    Maps images [B, C, H, W] of any side to logits [B, classes]. Raises UsageError unless ``depth`` is 6n + 4.
    """

    def __init__(self, image_shape: tuple[int, int, int], classes: int, depth: int, width: int) -> None:
        super().__init__()
        if depth < 10 or depth % 6 != 4:
            raise UsageError(
                f"a wide ResNet's depth must be 6n + 4, got {depth}: choose 16, 22, 28, 34 or 40"
            )
        blocks = (depth - 4) // 6
        channels = 16
        self.stem = nn.Conv2d(image_shape[0], channels, 3, padding=1, bias=False)
        widths = (16 * width, 32 * width, 64 * width)
        self.stages = residual_stages(PreActivationBlock, (blocks,) * 3, widths, channels)
        self.bn = nn.BatchNorm2d(widths[-1])
        self.relu = nn.ReLU()
        self.classifier = nn.Linear(widths[-1], classes)
        initialize_for_relu(self)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, classes] of images [B, C, H, W]."""
        features = self.relu(self.bn(self.stages(self.stem(images))))
        return self.classifier(torch.mean(features, dim=(2, 3)))
