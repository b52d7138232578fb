"""A generator's initial weights in a round."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from dfad_fast.models.generators.noisy import NoisyGenerator
from dfad_fast.sources.restarted.meta_weights import MetaWeights
from dfad_fast.sources.restarted.settings import RestartedSettings
from dfad_fast.sources.restarted.weights import (
    draw_anew,
    draw_first_layer,
    draw_noisy_layers,
    refuse_unknown_layers,
)


class Beginning:
    """Sets the weights of ``generator`` at the start of each round according to ``spec``.

    ``betas`` are Adam's, for learned weights.
    """

    def __init__(
        self,
        spec: RestartedSettings,
        generator: nn.Module,
        betas: tuple[float, float],
        rng: np.random.Generator,
    ) -> None:
        self._spec = spec
        self._generator = generator
        self._rng = rng
        self._rounds = 0
        self._meta = MetaWeights(generator, betas) if spec.restart == "meta" else None
        if spec.draws_weights:
            refuse_unknown_layers(generator)

    def __call__(self) -> None:
        """Call before a round."""
        if self._meta is not None:
            self._meta.begin()
        elif self._rounds % self._spec.every == 0:
            if self._spec.restart == "whole":
                draw_anew(self._generator, self._rng, self._spec.weights)
            elif self._spec.restart == "first":
                draw_first_layer(self._generator, self._rng, self._spec.weights)
        if isinstance(self._generator, NoisyGenerator):
            draw_noisy_layers(self._generator, self._rng)
        self._rounds += 1

    def note(self) -> None:
        """Call after each backward pass of a round."""
        if self._meta is not None:
            self._meta.note()

    def end(self, rate: float) -> None:
        """Call after a round; ``rate`` is the learning rate of learned weights."""
        if self._meta is not None:
            self._meta.end(rate)

    def state_dict(self) -> dict[str, Any]:
        return {"rounds": self._rounds, "meta": None if self._meta is None else self._meta.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._rounds = state["rounds"]
        if self._meta is not None:
            self._meta.load_state_dict(state["meta"])
