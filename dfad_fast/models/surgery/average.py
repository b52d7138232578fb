"""A moving average of a network's weights: DFAD's networks fluctuate, their averages less."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from dfad_fast.errors import UsageError


class MovingAverage:
    """A copy of ``network`` whose weights follow it: ``average = d average + (1 - d) weights`` at each update.

    ``d`` is ``min(decay, (1 + n) / (10 + n))`` at update ``n``, so that the first weights soon lose their influence.
    Running statistics are averaged too. Counters are copied, and so are buffers that started with infinite values, such
    as an attention mask. Raises UsageError, which names the decay ``name``, if it is not in [0, 1).
    """

    def __init__(self, network: nn.Module, decay: float, name: str = "student_ema") -> None:
        if not 0.0 <= decay < 1.0:
            raise UsageError(f"{name} must be at least 0 and less than 1, got {decay}")
        with torch.no_grad():
            self.network = copy.deepcopy(network).eval()
        for parameter in self.network.parameters():  # TorchScript has no requires_grad_
            parameter.requires_grad_(False)
        self._decay = decay
        self._is_averaged = [
            x.is_floating_point() and bool(x.isfinite().all()) for x in _tensors(self.network)
        ]

    @torch.no_grad()
    def update(self, network: nn.Module, n: int) -> None:
        """Updates the average with the weights of ``network`` at update ``n``, counted from 0."""
        decay = min(self._decay, (1 + n) / (10 + n))
        pairs = list(zip(_tensors(self.network), _tensors(network), self._is_averaged, strict=True))
        followed = [(a, b) for a, b, averaged in pairs if averaged]
        if followed:
            averages, weights = zip(*followed, strict=True)
            get_ema_multi_avg_fn(decay)(averages, weights, n)
        for a, b, averaged in pairs:
            if not averaged:
                a.copy_(b)


def _tensors(network: nn.Module) -> list[Tensor]:
    return [*network.parameters(), *network.buffers()]
