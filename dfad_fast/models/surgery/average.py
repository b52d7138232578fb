"""A network's weights averaged over a run: DFAD's networks go up and down, their averages less so."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from dfad_fast.errors import UsageError


class MovingAverage:
    """A copy of ``network`` whose weights follow it: ``average = d average + (1 - d) weights`` at each update.

    ``d`` is ``min(decay, (1 + n) / (10 + n))`` at update ``n``, so that the first weights are soon forgotten. Running
    statistics are averaged too. Counters are copied, and buffers that began with infinite values, such as a mask of
    attention. Raises UsageError, which calls the decay ``name``, for one that is not in [0, 1).
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
        """Takes in the weights of ``network`` at update ``n``, counted from 0."""
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
