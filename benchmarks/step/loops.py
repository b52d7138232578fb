"""The loops of a pair: the trainer or the published loop, on new networks that are equal for every contender."""

from __future__ import annotations

import gc
from typing import Any

import torch
from torch import nn

from benchmarks.faithful import OBJECTIVES, FaithfulLoop
from benchmarks.step.cases import Contender, Pair
from dfad_fast import DFADTrainer
from dfad_fast.models import create_network
from dfad_fast.networks.levers import PLAIN

CLASSES = 10
SEED = 0


def make_networks(pair: Pair) -> tuple[nn.Module, nn.Module]:
    """Teacher and student, the same at each call; the teacher's batch norms have the statistics of noise."""
    torch.manual_seed(SEED)
    teacher, student = (
        create_network(name, pair.image_shape, CLASSES) for name in (pair.teacher, pair.student)
    )
    settle(teacher, pair.image_shape)
    return teacher, student


def make_trainer(
    pair: Pair, method: str, speed: Any, device: str = "cpu", sync_batch_norm: bool = False
) -> DFADTrainer:
    """The trainer on new networks, which are equal for every contender."""
    teacher, student = make_networks(pair)
    return DFADTrainer(
        teacher.to(device),
        student.to(device),
        pair.image_shape,
        method,
        pair.generator,
        pair.latent_dim,
        pair.batch_size,
        SEED,
        recipe=pair.recipe,
        speed=speed,
        sync_batch_norm=sync_batch_norm,
    )


def make_loop(pair: Pair, contender: Contender, device: str = "cpu") -> DFADTrainer | FaithfulLoop:
    trainer = make_trainer(pair, contender.method, contender.speed or PLAIN, device)
    if contender.loop == "trainer":
        return trainer
    loop = FaithfulLoop(trainer, OBJECTIVES[contender.method])
    # The memory of the trainer and its copies of the networks must not count as the loop's.
    del trainer
    gc.collect()
    return loop


def settle(network: nn.Module, image_shape: tuple[int, int, int], images: int = 32) -> None:
    """Gives batch norm layers the statistics of noise. Without them the logits of an untrained deep net overflow."""
    network.train()
    layers = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 1.0
    with torch.no_grad():
        network(torch.randn(images, *image_shape))
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    network.eval()
