"""The generator of a run."""

from __future__ import annotations

import torch
from torch import nn

from dfad_fast.models.generators.registry import create_generator
from dfad_fast.sources import ImageForm, SourceSpec


def generator_of(
    generator: str | nn.Module,
    source: SourceSpec,
    form: ImageForm,
    latent_dim: int,
    classes: int,
    batch_size: int,
    fused: bool = True,
) -> nn.Module:
    """The generator by its name, or as given; ``auto`` is the one that ``source`` was published with, if any.

    Raises UsageError for an unknown name.
    """
    if generator == "auto":
        for part in source.walk():
            own = part.create_generator(form, latent_dim, classes, batch_size, fused)
            if own is not None:
                return own.to(memory_format=torch.channels_last)
    return create_generator(generator, form.shape, latent_dim, classes, fused)
