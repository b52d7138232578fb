"""The algorithms take turns on one layer."""

from __future__ import annotations

import math
import time
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.convolutions.layers import Layer
from dfad_fast.models.surgery.convolutions import Algorithm, quickest
from dfad_fast.ops import WinogradWeight, narrow_conv2d, winograd_conv2d, winograd_weight

BATCH = 128
# Whether the gradients of (images, weights) are needed. A frozen teacher needs neither, or those of the images for the
# generator. A student's first layer needs those of the weights, its other layers need both.
WAYS = {"forward": (False, False), "images": (True, False), "weights": (False, True), "both": (True, True)}


def measure(layer: Layer, rounds: int) -> dict[str, Any]:
    """Seconds of each algorithm in each way, the minimum over rounds, because other load only adds time."""
    torch.manual_seed(0)
    convolution = layer.made()
    images = torch.randn(BATCH, layer.channels, layer.side, layer.side).to(memory_format=torch.channels_last)
    row: dict[str, Any] = {"layer": layer._asdict(), "name": str(layer), "ways": {}}
    for way, (images_wanted, weights_wanted) in WAYS.items():
        convolution.weight.requires_grad_(weights_wanted)
        leaf = images.detach().requires_grad_(images_wanted)
        transformed = None
        if "winograd" in layer.algorithms and not weights_wanted:
            transformed = winograd_weight(convolution.weight, adjoint=images_wanted)
        seconds = dict.fromkeys(layer.algorithms, math.inf)
        for turn in range(-1, rounds):  # the first turn is a warm-up
            for algorithm in layer.algorithms:
                taken = _time(algorithm, convolution, leaf, transformed)
                if turn >= 0:
                    seconds[algorithm] = min(seconds[algorithm], taken)
        row["ways"][way] = {"seconds": seconds, "chosen": _chosen(layer, convolution, images_wanted)}
    return row


def _chosen(layer: Layer, convolution: nn.Conv2d, backward: bool) -> Algorithm:
    return quickest(convolution, layer.side, layer.side, backward)


def _time(
    algorithm: Algorithm, convolution: nn.Conv2d, images: Tensor, transformed: WinogradWeight | None
) -> float:
    weight = convolution.weight
    wanted = [tensor for tensor in (images, weight) if tensor.requires_grad]
    begun = time.perf_counter()
    if algorithm == "torch":
        result = F.conv2d(images, weight, None, convolution.stride, convolution.padding)
    elif algorithm == "winograd":
        result = winograd_conv2d(images, weight if transformed is None else transformed)
    else:
        tile = 4 if algorithm == "tiled" else 0
        result = narrow_conv2d(images, weight, stride=convolution.stride[0], tile=tile)
    if wanted:
        torch.autograd.grad(result, wanted, torch.ones_like(result))
    return time.perf_counter() - begun
