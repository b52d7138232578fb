"""A small vision transformer for digits, as a teacher without batch norm whose attention the method psaq reads.

    python examples/vision_transformer.py vit.safetensors
    dfad-fast distill --dataset digits --teacher examples/vision_transformer.py:teacher \
        --teacher-weights vit.safetensors --method psaq
"""

import sys

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.functional import cross_entropy

from dfad_fast.data import load_dataset


class Block(nn.Module):
    """Attention and a perceptron, each with a residual connection and a layer norm in front."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.attention = nn.MultiheadAttention(width, 4, batch_first=True)
        self.perceptron = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.norms[0](tokens)
        tokens = tokens + self.attention(x, x, x, need_weights=False)[0]
        return tokens + self.perceptron(self.norms[1](tokens))


class VisionTransformer(nn.Module):
    """Classifies images [B, 1, 8, 8] by their 16 patches of 2 x 2 pixels."""

    def __init__(self, width: int = 48, blocks: int = 3) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, 2, stride=2)
        self.places = nn.Parameter(0.02 * torch.randn(1, 16, width))
        self.blocks = nn.Sequential(*[Block(width) for _ in range(blocks)])
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 10))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tokens = self.patches(images).flatten(2).transpose(1, 2) + self.places
        return self.head(self.blocks(tokens).mean(1))


def teacher() -> nn.Module:
    """The network with random weights; ``--teacher-weights`` loads trained ones."""
    return VisionTransformer()


def train(network: nn.Module, epochs: int) -> float:
    """Trains ``network`` on the training images of digits; returns its share of right answers on the test images."""
    digits = load_dataset("digits")
    random = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 2e-3, epochs * -(-len(digits.train_labels) // 128)
    )
    for _ in range(epochs):
        for images, labels in digits.train_batches(128, random):
            optimizer.zero_grad()
            cross_entropy(network(images), labels).backward()
            optimizer.step()
            schedule.step()
    network.eval()
    with torch.no_grad():
        batches = digits.test_batches(256, torch.device("cpu"))
        right = [(network(images).argmax(1) == labels).float() for images, labels in batches]
    return torch.cat(right).mean().item()


def main(path: str, epochs: int = 120) -> None:
    torch.manual_seed(0)
    network = teacher()
    print(f"{100 * train(network, epochs):.2f} % of the test images")
    save_file(network.state_dict(), path)


if __name__ == "__main__":
    main(sys.argv[1])
