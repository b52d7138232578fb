"""Images drawn in advance: many at once cost less per image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dfad_fast.sources.form import ImageForm
from dfad_fast.sources.procedural.drawing import Drawing

_OF_EACH_KIND = 128
_NUMBERS = 2**23
"""The most to hold: 32 MiB."""


class Stock:
    """Images of ``drawing``, drawn with ``rng``, as ``form`` in the teacher's input space."""

    def __init__(self, drawing: Drawing, form: ImageForm, rng: np.random.Generator, pinned: bool) -> None:
        self.drawing = drawing
        self.form = form
        self._rng = rng
        self._pinned = pinned
        self._begun: Mapping[str, Any] = rng.bit_generator.state
        """The random state from before the current images were drawn."""
        self._images: Tensor | None = None
        self._taken = 0

    @property
    def size(self) -> int:
        """The number of images drawn at once."""
        channels, height, width = self.form.shape
        most = max(_NUMBERS // (channels * height * width), 1)
        return min(_OF_EACH_KIND * len(self.drawing.shares), most)

    def _fill(self) -> Tensor:
        self._begun = self._rng.bit_generator.state
        images = self.form.normalize(self.drawing.draw(self._rng, self.size, self.form.shape))
        return images.pin_memory() if self._pinned else images

    def take(self, count: int) -> Tensor:
        """The next images [count, C, H, W], float32 on the CPU."""
        parts, missing = [], count
        while missing:
            if self._images is None or self._taken == len(self._images):
                self._images, self._taken = self._fill(), 0
            part = self._images[self._taken : self._taken + missing]
            parts.append(part)
            self._taken += len(part)
            missing -= len(part)
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def state_dict(self) -> dict[str, Any]:
        """A small state: loading it redraws the current images."""
        return {"drawing": self.drawing.state_dict(), "begun": self._begun, "taken": self._taken}

    def recall(self, state: dict[str, Any]) -> None:
        """Restores the drawing only."""
        self.drawing = Drawing(**state["drawing"])

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.recall(state)
        self._rng.bit_generator.state = state["begun"]
        self._images, self._taken = None, state["taken"]
        if self._taken:
            self._images = self._fill()
