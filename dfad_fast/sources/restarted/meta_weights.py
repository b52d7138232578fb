"""Initial weights that are learned over the rounds."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class MetaWeights:
    """A generator's initial weights, learned so that a few steps give good images for any batch.

    First-order MAML (Finn et al. 2017, arXiv 1703.03400) as in FastDFKD (Fang et al. 2022, arXiv 2112.06253): adds up
    the gradients of all steps of a round, each at the generator's weights in that step, and applies one Adam step to
    the round's initial weights.
    """

    def __init__(self, generator: nn.Module, betas: tuple[float, float]) -> None:
        self._generator = generator
        self._weights = [nn.Parameter(p.detach().clone()) for p in generator.parameters()]
        self._optimizer = torch.optim.Adam(self._weights, betas=betas)

    @torch.no_grad()
    def begin(self) -> None:
        """Copies these weights to the generator."""
        for own, weight in zip(self._generator.parameters(), self._weights, strict=True):
            own.copy_(weight)
            weight.grad = torch.zeros_like(weight)

    @torch.no_grad()
    def note(self) -> None:
        """Adds the generator's gradients; non-finite ones, which float16 can produce, count as 0."""
        for own, weight in zip(self._generator.parameters(), self._weights, strict=True):
            if own.grad is not None and weight.grad is not None:
                weight.grad.add_(torch.where(own.grad.isfinite(), own.grad, 0.0))

    def end(self, rate: float) -> None:
        """Takes the Adam step with learning rate ``rate``."""
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.step()
        self._optimizer.zero_grad()

    def state_dict(self) -> dict[str, Any]:
        return {
            "weights": [weight.detach() for weight in self._weights],
            "optimizer": self._optimizer.state_dict(),
        }

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        for weight, kept in zip(self._weights, state["weights"], strict=True):
            weight.copy_(kept)
        self._optimizer.load_state_dict(state["optimizer"])
