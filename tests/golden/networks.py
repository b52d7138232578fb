"""Small teachers and students that belong to these runs alone, so that no change of other networks changes them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

CLASSES = 10
SIDE = 8


class SmallNet(nn.Module):
    """Images [B, channels, 8, 8] to logits [B, 10], in stages of 8x8, 4x4 and 2x2; the middle one is a residual sum."""

    def __init__(self, channels: int, width: int, batch_norm: bool) -> None:
        super().__init__()

        def convolution(before: int, after: int, stride: int = 1) -> nn.Sequential:
            norm = nn.BatchNorm2d(after) if batch_norm else nn.Identity()
            return nn.Sequential(nn.Conv2d(before, after, 3, stride, padding=1, bias=not batch_norm), norm)

        self.stem = convolution(channels, width)
        self.down = convolution(width, 2 * width, stride=2)
        self.residual = convolution(2 * width, 2 * width)
        self.last = convolution(2 * width, 2 * width, stride=2)
        self.head = nn.Linear(2 * width, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        x = self.stem(images).relu()
        x = self.down(x).relu()
        x = (x + self.residual(x)).relu()
        x = self.last(x).relu()
        return self.head(x.mean((2, 3)))


def networks(channels: int, batch_norm: bool) -> tuple[nn.Module, nn.Module]:
    """A frozen teacher whose batch norm layers have seen images, and a student of half its width."""
    torch.manual_seed(0)
    teacher, student = SmallNet(channels, 16, batch_norm), SmallNet(channels, 8, batch_norm)
    with torch.no_grad():
        for module in teacher.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.3, 0.3)
        for _ in range(5):
            teacher.train()(1.5 * torch.randn(32, channels, SIDE, SIDE) + 0.3)
    return teacher.eval(), student


def labeled(channels: int) -> list[tuple[Tensor, Tensor]]:
    """Two batches of test images and their labels."""
    source = torch.Generator().manual_seed(1)
    images = torch.randn(24, channels, SIDE, SIDE, generator=source)
    labels = torch.randint(CLASSES, (24,), generator=source)
    return list(zip(images.split(16), labels.split(16), strict=True))
