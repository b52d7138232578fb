"""The generator of a run: made by name or taken from the user, and checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from dfad_fast.errors import UsageError, unknown_name
from dfad_fast.models import ConditionalGenerator, DAFLGenerator, DCGANGenerator, DFADGenerator, ZSKTGenerator

_RELATIVES = {"dfad": DFADGenerator, "zskt": ZSKTGenerator, "dafl": DAFLGenerator}
GENERATORS = ("auto", *_RELATIVES, "dcgan", "conditional")


def make_generator(
    generator: str | nn.Module,
    shape: tuple[int, int, int],
    latent_dim: int,
    classes: int,
    fused: bool = True,
) -> nn.Module:
    """The generator by its name; a module is taken as it is. Raises UsageError for an unknown name."""
    if isinstance(generator, nn.Module):
        return generator
    if generator not in GENERATORS:
        raise unknown_name("generator", generator, GENERATORS)
    if generator == "auto":
        made: nn.Module = DFADGenerator(shape, latent_dim, _auto_width(shape), fused)
    elif generator == "conditional":
        made = ConditionalGenerator(
            DFADGenerator(shape, classes + latent_dim, _auto_width(shape), fused), classes
        )
    elif generator == "dcgan":
        made = DCGANGenerator(shape, latent_dim)
    else:
        made = _RELATIVES[generator](shape, latent_dim, fused=fused)
    return made.to(memory_format=torch.channels_last)


def _auto_width(shape: tuple[int, int, int]) -> int:
    """32 for images of up to 16x16 pixels, else 64: half the width is a quarter of the arithmetic.

    On digits, at equal images (one seed), 32 left the student nearer to its teacher on real images than 64
    and 128 did.
    """
    return 32 if shape[1] * shape[2] <= 256 else 64


def generate_batches(
    generator: nn.Module, count: int, batch_size: int, draw_noise: Callable[[int], Tensor]
) -> Iterator[Tensor]:
    """``count`` images of the noise that ``draw_noise(batch_size)`` draws, in batches [batch_size, C, H, W], of which
    the last one may be shorter; the generator in train mode.

    Train mode, since that is how student and teacher met its images; its running statistics stay as they are.
    """
    for start in range(0, count, batch_size):
        kept = {key: _copy(value) for key, value in generator.state_dict().items()}
        generator.train()
        with torch.no_grad():
            images = generator(draw_noise(batch_size))
        # At once, since whoever takes the images may leave it at those.
        generator.load_state_dict(kept)
        yield images[: count - start]


def _copy(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value


def generate(
    generator: nn.Module, count: int, batch_size: int, draw_noise: Callable[[int], Tensor]
) -> Tensor:
    """All of :func:`generate_batches` together, [count, C, H, W]."""
    return torch.cat(list(generate_batches(generator, count, batch_size, draw_noise)))


def check_generator(generator: nn.Module, noise: Tensor, shape: tuple[int, int, int]) -> None:
    """Raises UsageError unless ``generator`` maps ``noise`` [B, latent_dim] to images [B, *shape]."""
    generator.eval()
    try:
        with torch.no_grad():
            images = generator(noise)
    except Exception as error:
        raise UsageError(
            f"the generator cannot take noise {list(noise.shape)}: {error}: set latent_dim to what it was made for"
        ) from error
    expected = (len(noise), *shape)
    if not isinstance(images, Tensor) or tuple(images.shape) != expected:
        came = list(images.shape) if isinstance(images, Tensor) else type(images).__name__
        raise UsageError(
            f"the generator must map noise {list(noise.shape)} to images {list(expected)}, got {came}"
        )
