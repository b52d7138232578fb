"""VGG-11 with batch norm for small images (Simonyan and Zisserman 2015, arXiv 1409.1556, configuration A)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dfad_fast.models.zoo.initial import initialize_for_relu

_STAGES = ((64,), (128,), (256, 256), (512, 512), (512, 512))


class VGG11(nn.Module):
    """Five stages of 3x3 convolutions with batch norm and ReLU, each ending in max-pooling, then one linear layer.

    This is the form used on CIFAR, without the published net's two hidden linear layers.

    Maps images [B, C, H, W] of any side to logits [B, classes].
    """

    def __init__(self, image_shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = image_shape[0]
        for stage in _STAGES:
            for width in stage:
                # The batch norm's shift makes a bias redundant.
                layers += [
                    nn.Conv2d(channels, width, 3, padding=1, bias=False),
                    nn.BatchNorm2d(width),
                    nn.ReLU(),
                ]
                channels = width
            # Rounded up, so that small and odd sides keep at least one pixel.
            layers.append(nn.MaxPool2d(2, ceil_mode=True))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels, classes)
        initialize_for_relu(self)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, classes] of images [B, C, H, W]."""
        return self.classifier(torch.mean(self.features(images), dim=(2, 3)))
