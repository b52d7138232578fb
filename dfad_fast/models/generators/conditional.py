"""Images of a wanted class: a generator that is told a label (Mirza and Osindero 2014, arXiv 1411.1784)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dfad_fast.errors import UsageError

_MARGIN = 0.01
"""How near to its border a value that is moved to a part comes: rounding must not put it beyond."""


class ConditionalGenerator(nn.Module):
    """``generator`` with the label's one-hot vector before the noise.

    ``generator`` takes vectors of ``classes`` more entries than the noise has: ``DFADGenerator(shape, classes + 100)``
    for noise of 100. Where no labels are given, each image's first noise value says its label: the normal
    distribution cut into ``classes`` parts of equal probability, so that the labels are uniform and the images still a
    function of the noise alone.

    Maps noise [B, latent_dim] and labels [B] to images. Raises UsageError for fewer than 2 classes.
    """

    told = 1
    """How many of the noise's first values say what to make."""

    def __init__(self, generator: nn.Module, classes: int) -> None:
        super().__init__()
        if classes < 2:
            raise UsageError(f"a conditional generator needs at least 2 classes, got {classes}")
        self.generator = generator
        self.classes = classes

    def labels_of(self, noise: Tensor) -> Tensor:
        """The labels [B] that noise [B, latent_dim] has by itself."""
        return part_of(noise[:, 0], self.classes)

    def noise_for(self, noise: Tensor, labels: Tensor, places: Tensor) -> Tensor:
        """``noise`` [B, latent_dim], changed so that its labels are ``labels`` [B]; ``places`` [B] are the images'
        numbers in the whole batch."""
        told = noise.clone()
        told[:, 0] = within_part(noise[:, 0], labels, self.classes)
        return told

    def forward(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        labels = self.labels_of(noise) if labels is None else labels
        return self.generator(torch.cat([F.one_hot(labels, self.classes).to(noise), noise], dim=1))


def part_of(values: Tensor, parts: int) -> Tensor:
    """In which of ``parts`` of equal probability, counted from 0, normally distributed ``values`` [B] lie."""
    part = torch.special.ndtr(values.float()) * parts
    # The probability of a value far out rounds to 1.
    return part.long().clamp_max(parts - 1)


def within_part(values: Tensor, wanted: Tensor, parts: int) -> Tensor:
    """``values`` [B] moved to the parts ``wanted`` [B], each to the place that it has in its own."""
    probability = torch.special.ndtr(values.double()) * parts
    inside = (probability - probability.floor()).clamp(_MARGIN, 1.0 - _MARGIN)
    return torch.special.ndtri((wanted + inside) / parts).to(values)
