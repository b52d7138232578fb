"""Recomputes batch norm statistics from images after a network's weights were replaced."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from dfad_fast.models.reading.batch_norm import batch_norm_layers
from dfad_fast.models.reading.check import modes_of, set_modes
from dfad_fast.private_torch import is_batch_norm


def settle_statistics(network: nn.Module, batches: Iterable[Tensor]) -> int:
    """Sets the batch norm layers of ``network`` to the mean statistics of ``batches``; returns the layers' number.

    Each batch is images [B, C, H, W]. Each layer normalizes with the batch's statistics, as in training; weights do not
    change, and dropout is off.

    Frozen layers keep their statistics.
    """
    layers = [module for module in batch_norm_layers(network) if is_batch_norm(module)]
    if not layers:
        return 0
    modes = modes_of(network)
    momenta = [layer.momentum for layer in layers]
    shown = 0
    try:
        network.eval()
        for layer in layers:
            layer.reset_running_stats()  # type: ignore[operator]
            layer.train()
            layer.momentum = None  # type: ignore[assignment]
        with torch.no_grad():
            for images in batches:
                network(images)
                shown += 1
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        set_modes(modes)
    return shown


def was_trained(network: nn.Module) -> bool | None:
    """Whether its batch norm layers have other than initial statistics; None for a network without these layers."""
    layers = batch_norm_layers(network)
    if not layers:
        return None
    return any(
        int(getattr(layer, "num_batches_tracked", None) or 0) > 0
        or bool((layer.running_mean != 0).any())  # type: ignore[union-attr]
        or bool((layer.running_var != 1).any())  # type: ignore[union-attr]
        for layer in layers
    )
