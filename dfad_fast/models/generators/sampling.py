"""Samples batches of images from a generator, and checks that it makes images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from dfad_fast.errors import UsageError


def sample_batches(
    generator: nn.Module, count: int, batch_size: int, draw_noise: Callable[[int], Tensor]
) -> Iterator[Tensor]:
    """Yields ``count`` images from the noise of ``draw_noise(batch_size)``, in batches [batch_size, C, H, W].

    The last batch may be shorter.

    The generator runs in train mode, as in training; its running statistics do not change.
    """
    for start in range(0, count, batch_size):
        kept = {key: _copy(value) for key, value in generator.state_dict().items()}
        generator.train()
        with torch.no_grad():
            images = generator(draw_noise(batch_size))
        # Immediately, because the caller may stop after these images.
        generator.load_state_dict(kept)
        yield images[: count - start]


def _copy(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value


def check_generator(generator: nn.Module, noise: Tensor, shape: tuple[int, int, int]) -> None:
    """Raises UsageError unless ``generator`` maps ``noise`` [B, latent_dim] to images [B, *shape]."""
    generator.eval()
    try:
        with torch.no_grad():
            images = generator(noise)
    except Exception as error:
        raise UsageError(
            f"the generator cannot take noise {list(noise.shape)}: {error}: set latent_dim to the generator's"
        ) from error
    expected = (len(noise), *shape)
    if not isinstance(images, Tensor) or tuple(images.shape) != expected:
        came = list(images.shape) if isinstance(images, Tensor) else type(images).__name__
        raise UsageError(
            f"the generator must map noise {list(noise.shape)} to images {list(expected)}, got {came}"
        )
