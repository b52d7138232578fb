"""Images stored with one byte or in half precision per pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

FORMS = ("uint8", "half")


@dataclass(frozen=True)
class Packed:
    """Images ``pixels`` [n, C, H, W], uint8 or float16, in channels_last memory.

    A byte x in an image's channel stands for ``low + x * step``, both [n, C] in float32. Images in the teacher's input
    space have no fixed range, so each channel uses the range of its pixels. In half precision both are [n, 0].
    """

    pixels: Tensor
    low: Tensor
    step: Tensor

    @staticmethod
    def of(images: Tensor, form: str) -> Packed:
        """Packs ``images`` [n, C, H, W] of any floating dtype.

        A byte's error is at most ``step / 2``, which is the channel's range / 510. An image that is not finite stays
        so.
        """
        if form == "half":
            pixels = _channels_last(images.to(torch.float16))
            none = pixels.new_empty(len(pixels), 0, dtype=torch.float32)
            return Packed(pixels, none, none)
        images = images.float()
        low, high = images.amin((2, 3)), images.amax((2, 3))
        step = (high - low) / 255
        divisor = torch.where(step > 0, step, 1.0)
        levels = (images - low[:, :, None, None]) / divisor[:, :, None, None]
        return Packed(_channels_last(levels.round().nan_to_num(0.0).to(torch.uint8)), low, step)

    @staticmethod
    def cat(parts: Sequence[Packed]) -> Packed:
        """Concatenates several."""
        return Packed(
            torch.cat([part.pixels for part in parts]),
            torch.cat([part.low for part in parts]),
            torch.cat([part.step for part in parts]),
        )

    def select(self, rows: Tensor) -> Packed:
        """Some of the images, by index."""
        return Packed(self.pixels[rows], self.low[rows], self.step[rows])

    def __len__(self) -> int:
        return len(self.pixels)

    def images(self, dtype: torch.dtype) -> Tensor:
        """[n, C, H, W] in channels_last memory."""
        if not self.low.shape[1]:
            return self.pixels.to(dtype)
        low, step = (x.to(dtype)[:, :, None, None] for x in (self.low, self.step))
        return torch.addcmul(low, self.pixels.to(dtype), step)


def _channels_last(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last)
