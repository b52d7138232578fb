"""Trains a student on its teacher's answers again while its weights are constrained."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from dfad_fast.engine.global_randomness import undisturbed
from dfad_fast.ops import kl_discrepancy
from dfad_fast.precision import at_least_float32
from dfad_fast.sources.banking.epochs import Epochs

BATCH = 128
TEMPERATURE = 4.0
_ADAM_RATE = 1e-3


def tune(student: nn.Module, images: Tensor, answers: Tensor, steps: int, seed: int) -> None:
    """Takes ``steps`` steps of Adam on the KL divergence at temperature 4 from the teacher's ``answers`` [N, classes].

    Batches hold 128 of ``images`` [N, C, H, W], each once before any repeats. The rate falls from 1e-3 to 0 along a
    cosine. The student is left in eval mode, and torch's random state unchanged.
    """
    optimizer = torch.optim.Adam([p for p in student.parameters() if p.requires_grad], lr=_ADAM_RATE)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: 0.5 * (1.0 + math.cos(math.pi * step / max(1, steps)))
    )
    epochs = Epochs(seed)
    with undisturbed(images.device):
        torch.manual_seed(seed)
        student.train()
        for _ in range(steps):
            rows = torch.from_numpy(epochs.take(len(images), min(BATCH, len(images)))).to(images.device)
            loss = kl_discrepancy(at_least_float32(student(images[rows])), answers[rows], TEMPERATURE)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    student.eval()
