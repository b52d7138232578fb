"""Draws new weights from a random generator on the host."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from dfad_fast.errors import UsageError
from dfad_fast.models.generators.noisy import NoisyGenerator

Initial = Literal["uniform", "normal"]
_DEVIATION = 0.02
_LAYERS = (
    nn.Linear,
    *(nn.Conv1d, nn.Conv2d, nn.Conv3d),
    *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
)
_NORMS = (
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm),
    *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
    *(nn.GroupNorm, nn.LayerNorm),
)


def refuse_unknown_layers(generator: nn.Module) -> None:
    """Raises UsageError if :func:`draw_anew` cannot draw a layer's weights."""
    known = (*_LAYERS, *_NORMS, NoisyGenerator)
    for name, module in generator.named_modules():
        if not isinstance(module, known) and any(True for _ in module.parameters(recurse=False)):
            raise UsageError(
                f"the generator's {name or 'module'} is a {type(module).__name__}, whose weights cannot be "
                "redrawn: choose restart=meta or restart=none, or a generator of linear, convolution and norm "
                "layers"
            )
    if not any(isinstance(module, _LAYERS) for module in generator.modules()):
        raise UsageError("the generator has no linear or convolution layer to redraw: choose restart=none")


@torch.no_grad()
def draw_anew(network: nn.Module, rng: np.random.Generator, initial: Initial) -> None:
    """New weights for the linear, convolution and norm layers of ``network``, in their order.

    ``uniform`` is torch's default: weights and biases uniform within 1 / sqrt(inputs), norms' scales 1 and shifts 0.
    ``normal`` is DCGAN's (arXiv 1511.06434): weights N(0, 0.02^2), norms' scales N(1, 0.02^2), biases 0.
    """
    for module in network.modules():
        if isinstance(module, _LAYERS):
            _draw_layer(module, rng, initial)
        elif isinstance(module, _NORMS) and module.weight is not None:
            if initial == "normal":
                _put(module.weight, 1.0 + _DEVIATION * rng.standard_normal(module.weight.shape))
            else:
                module.weight.fill_(1.0)
            if module.bias is not None:
                module.bias.zero_()


def draw_first_layer(generator: nn.Module, rng: np.random.Generator, initial: Initial) -> None:
    """The same for the first linear or convolution layer only."""
    draw_anew(next(module for module in generator.modules() if isinstance(module, _LAYERS)), rng, initial)


@torch.no_grad()
def draw_noisy_layers(generator: NoisyGenerator, rng: np.random.Generator) -> None:
    """Weights of N(0, 1), biases 0 (NAYER, arXiv 2310.00258)."""
    _put(generator.noisy_weight, rng.standard_normal(generator.noisy_weight.shape, dtype=np.float32))
    generator.noisy_bias.zero_()


def _draw_layer(layer: nn.Module, rng: np.random.Generator, initial: Initial) -> None:
    weight, bias = layer.weight, layer.bias
    assert isinstance(weight, Tensor)
    bound = 1.0 / math.sqrt(weight[0].numel())
    if initial == "normal":
        _put(weight, _DEVIATION * rng.standard_normal(weight.shape))
    else:
        _put(weight, rng.uniform(-bound, bound, weight.shape))
    if isinstance(bias, Tensor):
        _put(bias, rng.uniform(-bound, bound, bias.shape) if initial == "uniform" else np.zeros(bias.shape))


def _put(weight: Tensor, drawn: np.ndarray) -> None:
    weight.copy_(torch.from_numpy(drawn))
