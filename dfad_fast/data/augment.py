"""Random changes to a batch of training images, each a few vectorized tensor operations."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class ShiftFlip:
    """Moves each image by up to `shift` pixels vertically and horizontally, then mirrors half of them if `flip`.

    Pixels that move in from outside are black (0). A shift by up to 4 is a random crop after padding by 4.
    """

    shift: int
    flip: bool = False

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """uint8 [N, C, H, W] -> a new tensor of that shape on the same device.

        Numbers are drawn on the generator's device: a CPU generator gives the same images on every device.
        """
        count, _, height, width = images.shape
        steps = 2 * self.shift + 1
        corner = torch.randint(0, steps, (2, count), generator=generator, device=generator.device)
        down, across = corner.to(images.device)
        # A view of all windows of each padded image: selecting one window copies whole rows, not single pixels.
        windows = F.pad(images, (self.shift,) * 4).unfold(2, height, 1).unfold(3, width, 1)
        images = windows[torch.arange(count, device=images.device), :, down, across]
        if self.flip:
            mirror = torch.randint(0, 2, (count, 1, 1, 1), generator=generator, device=generator.device)
            images = torch.where(mirror.to(images.device, torch.bool), images.flip(3), images)
        return images
