"""KegNet's generators: several conditional ones, each with a decoder that reads the noise out of its images again."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dfad_fast.errors import UsageError
from dfad_fast.models.generators.conditional import ConditionalGenerator, part_of

_UNITS = 120
_HIDDEN = 3  # further layers of _UNITS; published for Fashion-MNIST and SVHN, and 1 for MNIST


class Decoder(nn.Sequential):
    """Reads from images [B, *image_shape] the noise [B, length] that they were made of.

    Linear layers of 120 units, each with an ELU and a batch norm behind it (KegNet, Yoo et al. 2019, NeurIPS, published
    code).
    """

    def __init__(self, image_shape: tuple[int, int, int], length: int) -> None:
        layers: list[nn.Module] = [nn.Flatten()]
        for inputs in (math.prod(image_shape), *[_UNITS] * _HIDDEN):
            layers += [nn.Linear(inputs, _UNITS), nn.ELU(), nn.BatchNorm1d(_UNITS)]
        super().__init__(*layers, nn.Linear(_UNITS, length))


class DecodedGenerators(ConditionalGenerator):
    """``generators``, and for each its decoder, which is trained with it.

    From KegNet ("Knowledge Extraction with No Observable Data", Yoo et al. 2019, NeurIPS).

    In the noise [B, latent_dim] the first value says the label, as in :class:`ConditionalGenerator`, and the second one
    in the same way the generator. Each generator takes vectors [B, classes + latent_dim - 2], the label's one-hot
    vector before the rest of the noise; its decoder gives that rest of images, [B, latent_dim - 2].

    Maps noise [B, latent_dim] to images. Each generator is shown all of the noise, so that its batch norm layers see
    whole batches, and makes the images that are its own. Raises UsageError for fewer than 2 classes, no generator, and
    another number of decoders.
    """

    told = 2

    def __init__(self, generators: Sequence[nn.Module], decoders: Sequence[nn.Module], classes: int) -> None:
        if not generators or len(generators) != len(decoders):
            raise UsageError(
                f"at least one generator, and a decoder for each, got {len(generators)} and {len(decoders)}"
            )
        super().__init__(nn.ModuleList(ConditionalGenerator(made, classes) for made in generators), classes)
        self.decoders = nn.ModuleList(decoders)

    @property
    def members(self) -> list[nn.Module]:
        """The conditional generators, each of noise [B, latent_dim - 2] and labels [B]."""
        assert isinstance(self.generator, nn.ModuleList)
        return list(self.generator)

    def read_back(self, noise: Tensor) -> Tensor:
        """What of noise [B, latent_dim] the decoders are to find: all that says neither label nor generator."""
        return noise[:, self.told :]

    def make(self, member: int, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        """The images that generator ``member`` makes of all of ``noise`` [B, latent_dim]."""
        labels = self.labels_of(noise) if labels is None else labels
        images: Tensor = self.members[member](self.read_back(noise), labels)
        return images

    def forward(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images [B, C, H, W] from noise [B, latent_dim]; ``labels`` [B] replace those that the noise chooses."""
        owners = part_of(noise[:, 1], len(self.members)).view(-1, 1, 1, 1)
        images = self.make(0, noise, labels)
        for member in range(1, len(self.members)):
            images = torch.where(owners == member, self.make(member, noise, labels), images)
        return images
