"""Initial weights of convolutions that ReLUs follow."""

from __future__ import annotations

from torch import nn


def initialize_for_relu(network: nn.Module) -> None:
    """Draws the weights of every convolution of ``network`` so that ReLU keeps the gradients' variance.

    He et al. 2015, arXiv 1502.01852, section 2.2.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
