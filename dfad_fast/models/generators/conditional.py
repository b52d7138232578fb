"""Images of a given class: a generator with label input (Mirza and Osindero 2014, arXiv 1411.1784)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dfad_fast.errors import UsageError

_MARGIN = 0.01
"""The least distance of a moved value from its part's border, so that rounding cannot move it across."""


class ConditionalGenerator(nn.Module):
    """``generator`` with the label's one-hot vector before the noise.

    ``generator`` takes vectors with ``classes`` more entries than the noise: ``DFADGenerator(shape, classes + 100)``
    for noise of length 100. Without labels, each image's first noise value chooses its label: the normal distribution
    is cut into ``classes`` parts of equal probability. The labels are then uniform, and the images depend only on the
    noise.

    Maps noise [B, latent_dim] and labels [B] to images. Raises UsageError for fewer than 2 classes.
    """

    told = 1
    """How many of the first noise values choose what to generate."""

    def __init__(self, generator: nn.Module, classes: int) -> None:
        super().__init__()
        if classes < 2:
            raise UsageError(f"a conditional generator needs at least 2 classes, got {classes}")
        self.generator = generator
        self.classes = classes

    def labels_of(self, noise: Tensor) -> Tensor:
        """The labels [B] that noise [B, latent_dim] chooses."""
        return part_of(noise[:, 0], self.classes)

    def noise_for(self, noise: Tensor, labels: Tensor, places: Tensor) -> Tensor:
        """``noise`` [B, latent_dim], changed so that its labels are ``labels`` [B].

        ``places`` [B] are the images' indices in the whole batch.
        """
        told = noise.clone()
        told[:, 0] = within_part(noise[:, 0], labels, self.classes)
        return told

    def forward(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images [B, C, H, W] from noise [B, latent_dim]; ``labels`` [B] replace those that the noise chooses."""
        labels = self.labels_of(noise) if labels is None else labels
        return self.generator(torch.cat([F.one_hot(labels, self.classes).to(noise), noise], dim=1))


def part_of(values: Tensor, parts: int) -> Tensor:
    """The index of each normally distributed value [B] among ``parts`` parts of equal probability."""
    part = torch.special.ndtr(values.float()) * parts
    # The probability of a very large value rounds to 1.
    return part.long().clamp_max(parts - 1)


def within_part(values: Tensor, wanted: Tensor, parts: int) -> Tensor:
    """Moves ``values`` [B] to the parts ``wanted`` [B]; each keeps its relative position within its part."""
    probability = torch.special.ndtr(values.double()) * parts
    inside = (probability - probability.floor()).clamp(_MARGIN, 1.0 - _MARGIN)
    return torch.special.ndtri((wanted + inside) / parts).to(values)
