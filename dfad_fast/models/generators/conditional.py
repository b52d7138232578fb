"""Images of a wanted class: a generator that is told a label (Mirza and Osindero 2014, arXiv 1411.1784)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dfad_fast.errors import UsageError


class ConditionalGenerator(nn.Module):
    """``generator`` with the label's one-hot vector before the noise.

    ``generator`` takes vectors of ``classes`` more entries than the noise has: ``DFADGenerator(shape, classes + 100)``
    for noise of 100. Where no labels are given, each image's first noise value says its label: the normal
    distribution cut into ``classes`` parts of equal probability, so that the labels are uniform and the images still a
    function of the noise alone.

    Maps noise [B, latent_dim] and labels [B] to images. Raises UsageError for fewer than 2 classes.
    """

    def __init__(self, generator: nn.Module, classes: int) -> None:
        super().__init__()
        if classes < 2:
            raise UsageError(f"a conditional generator needs at least 2 classes, got {classes}")
        self.generator = generator
        self.classes = classes

    def labels_of(self, noise: Tensor) -> Tensor:
        """The labels [B] that noise [B, latent_dim] has by itself."""
        part = torch.special.ndtr(noise[:, 0].float()) * self.classes
        # The probability of a value far out rounds to 1.
        return part.long().clamp_max(self.classes - 1)

    def forward(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        labels = self.labels_of(noise) if labels is None else labels
        return self.generator(torch.cat([F.one_hot(labels, self.classes).to(noise), noise], dim=1))
