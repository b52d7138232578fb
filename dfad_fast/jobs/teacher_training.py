"""Trains a teacher on a dataset, with a schedule that works for the networks here."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from dfad_fast.data import Dataset
from dfad_fast.errors import RunError, UsageError

_BATCH_SIZE = 128
_WARM_UP = 0.1


def train_teacher(
    network: nn.Module,
    dataset: Dataset,
    epochs: int,
    seed: int = 0,
    learning_rate: float = 0.1,
    progress: Callable[[int, float], None] | None = None,
) -> None:
    """Trains ``network`` in place on the training images, with the dataset's own augmentation.

    Cross-entropy, SGD with Nesterov momentum 0.9 and weight decay 5e-4, batches of 128; the learning rate
    warms up linearly over the first tenth and follows a cosine to 0. ``progress`` receives each finished epoch
    and its mean loss.

    Raises UsageError for epochs that are not positive and RunError for a loss that is not finite.
    """
    if epochs <= 0:
        raise UsageError(f"epochs must be at least 1, got {epochs}")
    device = next(network.parameters()).device
    random = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(
        network.parameters(), lr=learning_rate, momentum=0.9, weight_decay=5e-4, nesterov=True, fused=True
    )
    steps_per_epoch = -(-len(dataset.train_labels) // _BATCH_SIZE)
    steps = epochs * steps_per_epoch
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate_factor(step, steps))
    for epoch in range(epochs):
        network.train()
        total = torch.zeros((), device=device)
        for images, labels in dataset.train_batches(_BATCH_SIZE, random):
            loss = F.cross_entropy(network(images.to(device)), labels.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.detach()
        mean = total.item() / steps_per_epoch
        if not torch.isfinite(total):
            raise RunError(
                f"the teacher's loss is not finite in epoch {epoch + 1}: lower --learning-rate (now {learning_rate})"
            )
        if progress:
            progress(epoch + 1, mean)


def _rate_factor(step: int, steps: int) -> float:
    warm_up = max(1.0, _WARM_UP * steps)
    return min((step + 1) / warm_up, 0.5 * (1.0 + math.cos(math.pi * min(1.0, step / steps))))
