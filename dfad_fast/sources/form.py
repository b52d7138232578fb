"""The shape and normalization of the teacher's images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeGuard

import torch
from torch import Tensor

from dfad_fast.errors import UsageError


@dataclass(frozen=True)
class ImageForm:
    """Images of ``shape`` (C, H, W), whose pixels from 0 to 1 were normalized by ``mean`` and ``std`` per channel.

    Both are None if unknown.

    Raises UsageError for numbers that do not fit.
    """

    shape: tuple[int, int, int]
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None

    def __post_init__(self) -> None:
        mean, std, channels = self.mean, self.std, self.shape[0]
        if mean is None and std is None:
            return
        if not _are_numbers(mean, channels) or not _are_numbers(std, channels) or min(std) <= 0:
            raise UsageError(
                f"mean and std must be given together, one finite value for each of {channels} channels, std > 0; "
                f"got mean {mean} and std {std}"
            )
        if max(mean) > 1:
            raise UsageError(
                f"mean {tuple(mean)} looks like it is for pixels from 0 to 255, but here pixels from 0 to 1 are "
                "normalized: divide mean and std by 255"
            )

    @property
    def normalization(self) -> tuple[Tensor, Tensor] | None:
        """Mean and standard deviation as [C, 1, 1]; None if unknown."""
        if self.mean is None or self.std is None:
            return None
        mean, std = (torch.tensor(value, device="cpu").view(-1, 1, 1) for value in (self.mean, self.std))
        return mean, std

    def normalize(self, pixels: Tensor) -> Tensor:
        """Maps images [N, C, H, W] from 0 to 1 to the teacher's input space.

        If the normalization is unknown, each channel gets mean 0 and standard deviation 1 over all images.
        """
        known = self.normalization
        if known is None:
            std, mean = torch.std_mean(pixels, (0, 2, 3), correction=0, keepdim=True)
            return (pixels - mean) / std.clamp_min(1e-3)
        mean, std = (value.to(pixels) for value in known)
        return (pixels - mean) / std


def _are_numbers(values: Sequence[float] | None, count: int) -> TypeGuard[Sequence[float]]:
    """Whether they are that many finite numbers in a sequence, which may be an array or a tensor."""
    try:
        return values is not None and len(values) == count and all(math.isfinite(value) for value in values)
    except TypeError:
        return False
