"""A network's eager layers in two memory layouts take turns with this package's."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from contextlib import nullcontext
from statistics import median
from typing import Any, Literal

import torch
from torch import Tensor, nn

from benchmarks.measuring.tables import Sheet, duration
from benchmarks.step.loops import settle
from dfad_fast.models import create_network
from dfad_fast.models.surgery.folding import fold_batch_norm
from dfad_fast.models.surgery.quick_layers import QuickLayers

BATCH = 128
CLASSES = 10
_SHAPES = {"resnet10-w8": (1, 28, 28), "resnet10-w16": (1, 28, 28)}
Contender = Literal["eager", "eager, channels_last", "dfad_fast"]
_CONTENDERS: tuple[Contender, ...] = ("eager", "eager, channels_last", "dfad_fast")


def measure(role: str, name: str, rounds: int) -> dict[str, Any]:
    """Median seconds of each contender, and the largest difference of dfad_fast's logits from eager's, relative to the
    largest logit."""
    torch.manual_seed(0)
    shape = _SHAPES.get(name, (3, 32, 32))
    network = create_network(name, shape, CLASSES)
    settle(network, shape)
    images, gradient = torch.randn(BATCH, *shape), torch.randn(BATCH, CLASSES)
    runs = {contender: _run(role, contender, network, images, gradient) for contender in _CONTENDERS}
    logits = {contender: run() for contender, run in runs.items()}  # the warm-up
    seconds: dict[Contender, list[float]] = {contender: [] for contender in _CONTENDERS}
    for _ in range(rounds):
        for contender, run in runs.items():
            begun = time.perf_counter()
            run()
            seconds[contender].append(time.perf_counter() - begun)
    apart = (logits["dfad_fast"] - logits["eager"]).abs().max() / logits["eager"].abs().max()
    return {
        "role": role,
        "network": name,
        "image_shape": shape,
        "seconds": {contender: median(taken) for contender, taken in seconds.items()},
        "apart": float(apart),
    }


def _run(
    role: str, contender: Contender, network: nn.Module, images: Tensor, gradient: Tensor
) -> Callable[[], Tensor]:
    network = copy.deepcopy(network).train(role == "student")
    if role == "teacher" and contender == "dfad_fast":
        network = fold_batch_norm(network, images[:4]).network
    if contender != "eager":
        network = network.to(memory_format=torch.channels_last)
        images = images.contiguous(memory_format=torch.channels_last)
    layers = QuickLayers(network, frozen=role == "teacher") if contender == "dfad_fast" else None
    parameters = list(network.parameters())

    def run() -> Tensor:
        with layers.used() if layers else nullcontext(), torch.set_grad_enabled(role == "student"):
            logits: Tensor = network(images)
            if role == "student":
                torch.autograd.grad(logits, parameters, gradient)
        return logits.detach()

    return run


def sheet(rows: list[dict[str, Any]]) -> Sheet:
    lines = []
    for row in rows:
        seconds, ours = row["seconds"], row["seconds"]["dfad_fast"]
        size = "x".join(map(str, row["image_shape"]))
        eager = (f"{duration(seconds[name])} ({seconds[name] / ours:.2f}x)" for name in _CONTENDERS[:-1])
        lines.append(
            (f"{row['role']} {row['network']}, {size}", *eager, duration(ours), f"{row['apart']:.1e}")
        )
    return Sheet(
        f"Whole networks, batches of {BATCH} images", ("network", *_CONTENDERS, "apart"), tuple(lines)
    )
