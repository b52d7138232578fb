"""Small networks, and processes that have what a run needs imported already."""

from multiprocessing import get_context

import torch
from torch import nn


def make_net(width: int, classes: int = 4, batch_norm: bool = True) -> nn.Sequential:
    norm = nn.BatchNorm2d if batch_norm else lambda _: nn.Identity()
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1),
        norm(width),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1),
        norm(2 * width),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(2 * width, classes),
    )


class SmallViT(nn.Module):
    """A vision transformer in torchvision's form, for images of 8 pixels and one channel: 16 patches and a class
    token."""

    def __init__(self, width: int = 8, blocks: int = 2, classes: int = 4) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, 2, stride=2)
        self.class_token = nn.Parameter(torch.randn(1, 1, width))
        self.positions = nn.Parameter(torch.randn(1, 17, width))
        self.blocks = nn.Sequential(*(_Block(width) for _ in range(blocks)))
        self.head = nn.Linear(width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_token.expand(len(x), -1, -1), tokens], 1) + self.positions
        return self.head(self.blocks(tokens)[:, 0])


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.next_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True)
        self.perceptron = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        given = self.norm(x)
        x = x + self.attention(given, given, given, need_weights=False)[0]
        return x + self.perceptron(self.next_norm(x))


def forking():
    """A multiprocessing context whose processes begin with what a run needs imported, which would take most of their
    time."""
    context = get_context("forkserver")
    context.set_forkserver_preload(
        ["dfad_fast.training.trainer", "matplotlib.figure", "jinja2", "PIL.Image", "torch._dynamo"]
    )
    return context
