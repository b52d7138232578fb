"""The distinct convolutions of networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from dfad_fast.models import create_network
from dfad_fast.models.surgery.convolutions import Algorithm

_SIDES = {"resnet8-w32": (1, 8), "resnet10-w8": (1, 28), "resnet10-w16": (1, 28)}
_MOST_NARROW = 128  # largest number of channels for which narrow_conv2d is useful


class Layer(NamedTuple):
    channels: int
    side: int
    filters: int
    kernel: int
    stride: int

    def __str__(self) -> str:
        return f"{self.channels} to {self.filters}, {self.kernel}x{self.kernel}/{self.stride}, {self.side}x{self.side}"

    def made(self) -> nn.Conv2d:
        return nn.Conv2d(
            self.channels, self.filters, self.kernel, self.stride, padding=self.kernel // 2, bias=False
        )

    @property
    def algorithms(self) -> tuple[Algorithm, ...]:
        """The algorithms that can compute this layer."""
        tiles = self.kernel == 3 and self.stride == 1
        found: list[Algorithm] = ["torch"]
        if max(self.channels, self.filters) <= _MOST_NARROW:
            found += ["direct", "tiled"] if tiles else ["direct"]
        return (*found, "winograd") if tiles and self.channels >= 8 else tuple(found)


def layers_of(networks: Sequence[str]) -> list[Layer]:
    """Layers sorted by stride, kernel and channels. Images have CIFAR's size unless the package's data set for the
    network has another."""
    seen: set[Layer] = set()

    def see(convolution: nn.Conv2d, args: tuple[Any, ...]) -> None:
        seen.add(
            Layer(
                convolution.in_channels,
                args[0].shape[3],
                convolution.out_channels,
                convolution.kernel_size[0],
                convolution.stride[0],
            )
        )

    for name in networks:
        channels, side = _SIDES.get(name, (3, 32))
        network = create_network(name, (channels, side, side), 10).eval()
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                module.register_forward_pre_hook(see)
        with torch.no_grad():
            network(torch.zeros(1, channels, side, side))
    return sorted(
        seen, key=lambda layer: (layer.stride, layer.kernel, layer.channels, layer.filters, layer.side)
    )
