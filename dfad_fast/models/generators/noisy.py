"""NAYER's generator: fixed class vectors, varied by noisy layers that are redrawn for each batch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dfad_fast.errors import UsageError
from dfad_fast.models.generators.conditional import ConditionalGenerator, part_of, within_part


class NoisyGenerator(ConditionalGenerator):
    """``generator`` applied to class vectors after batch norm and a noisy linear layer.

    From NAYER (Tran et al. 2024, arXiv 2310.00258).

    ``vectors`` [classes, D] do not change. Each of ``layers`` noisy layers makes one image per class, so a batch of N
    balanced labels needs N / classes of them; the training code redraws them. ``width`` is the length of the vectors
    that ``generator`` takes.

    The first value of the noise [B, latent_dim] chooses the label, as in :class:`ConditionalGenerator`, and the second
    chooses the noisy layer in the same way; the others are ignored. Raises UsageError for fewer than 2 classes, and for
    vectors that are not finite or have no entries.
    """

    told = 2
    vectors: Tensor

    def __init__(self, generator: nn.Module, vectors: Tensor, width: int, layers: int) -> None:
        super().__init__(generator, len(vectors))
        if vectors.dim() != 2 or not vectors.numel() or not vectors.isfinite().all():
            raise UsageError(f"class vectors must be finite and [classes, D], got {list(vectors.shape)}")
        self.layers = layers
        self.register_buffer("vectors", vectors)
        self.norm = nn.BatchNorm1d(vectors.shape[1])
        self.noisy_weight = nn.Parameter(torch.randn(layers, width, vectors.shape[1]))
        self.noisy_bias = nn.Parameter(torch.zeros(layers, width))

    def layers_of(self, noise: Tensor) -> Tensor:
        """The noisy layers [B] that noise [B, latent_dim] chooses."""
        return part_of(noise[:, 1], self.layers)

    def noise_for(self, noise: Tensor, labels: Tensor, places: Tensor) -> Tensor:
        """``noise`` with ``labels`` [B], and with the next noisy layer for each round of classes in ``places`` [B]."""
        told = super().noise_for(noise, labels, places)
        layers = places.div(self.classes, rounding_mode="floor") % self.layers
        told[:, 1] = within_part(noise[:, 1], layers, self.layers)
        return told

    def forward(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images [B, C, H, W] from noise [B, latent_dim]; ``labels`` [B] replace those that the noise chooses."""
        labels = self.labels_of(noise) if labels is None else labels
        vectors = self.norm(self.vectors[labels])
        # All images of a class share one vector, so each noisy layer runs once per class, not per image.
        chosen = F.one_hot(labels, self.classes).to(vectors)
        of_classes = chosen.T @ vectors / chosen.sum(0).clamp_min(1.0)[:, None]
        table = torch.einsum("kwd,cd->kcw", self.noisy_weight, of_classes) + self.noisy_bias[:, None]
        return self.generator(table[self.layers_of(noise), labels])
