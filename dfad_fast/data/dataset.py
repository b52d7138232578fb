"""The common form of every dataset."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from dfad_fast.data.checks import check_labels
from dfad_fast.errors import UsageError

Augment = Callable[[Tensor, torch.Generator], Tensor]
"""uint8 images [N, C, H, W] and a generator -> changed images of the same shape and dtype."""


# eq=False: comparing tensors field by field would raise.
@dataclass(frozen=True, eq=False)
class Dataset:
    """A labeled train and test set, held in memory on the CPU.

    Attributes:
        train_images, test_images: uint8 [N, C, H, W]; without train images the dataset only evaluates.
        train_labels, test_labels: int64 [N], each in 0 .. len(classes) - 1.
        classes: the class names; a label is an index into them.
        mean, std: one float per channel, of pixels scaled to 0 .. 1.
        augment: how `train_batches` changes a batch, or None for no change.

    Raises:
        UsageError: the tensors have other shapes or types, or do not fit each other.
    """

    name: str
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augment: Augment | None = None

    def __post_init__(self) -> None:
        for split, images, labels in (
            ("train", self.train_images, self.train_labels),
            ("test", self.test_images, self.test_labels),
        ):
            source = f"{self.name} {split} set"
            if images.dtype != torch.uint8 or images.dim() != 4:
                got = f"{images.dtype} {list(images.shape)}"
                raise UsageError(f"{source}: images must be uint8 [N, C, H, W], got {got}")
            if split == "test" or len(images):
                check_labels(labels, len(images), len(self.classes), source)
        if self.train_images.shape[1:] != self.test_images.shape[1:]:
            train, test = list(self.train_images.shape[1:]), list(self.test_images.shape[1:])
            raise UsageError(
                f"{self.name}: train images are {train} but test images are {test}; give both the same size"
            )
        if not len(self.mean) == len(self.std) == self.image_shape[0]:
            channels = self.image_shape[0]
            raise UsageError(
                f"{self.name}: mean and std need one value for each of {channels} channels, "
                f"got {len(self.mean)} and {len(self.std)}"
            )

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of one image."""
        channels, height, width = self.train_images.shape[1:]
        return channels, height, width

    def normalize(self, images: Tensor) -> Tensor:
        """uint8 [N, C, H, W] -> float32 [N, C, H, W] on the same device: (x / 255 - mean) / std, per channel.

        Raises:
            UsageError: the images have another type (they may already be normalized) or shape.
        """
        channels = self.image_shape[0]
        if images.dtype != torch.uint8 or images.dim() != 4 or images.shape[1] != channels:
            got = f"{images.dtype} {list(images.shape)}"
            raise UsageError(f"{self.name}: normalize expects uint8 [N, {channels}, H, W], got {got}")
        pixels = images.to(torch.float32)
        mean, std = (pixels.new_tensor(values).view(-1, 1, 1) for values in (self.mean, self.std))
        return pixels.div_(255).sub_(mean).div_(std)

    def test_batches(
        self, batch_size: int, device: torch.device | str = "cpu"
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """One pass over the test set in its fixed order; the last batch may be short.

        Yields:
            images float32 [B, C, H, W], normalized, and labels int64 [B], both on `device`.
        """
        _check_batch_size(batch_size)
        rows = torch.arange(len(self.test_images), device="cpu").split(batch_size)
        return (self._batch(self.test_images, self.test_labels, row, None, device) for row in rows)

    def train_batches(
        self,
        batch_size: int,
        generator: torch.Generator,
        augment: bool = True,
        device: torch.device | str = "cpu",
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """One pass over the train set, shuffled, and augmented unless `augment` is False; the last batch may be short.

        This call draws the order from `generator`; each batch draws its augmentation when it is taken. The same
        generator state gives the same batches on every device. A last batch of a single image is skipped (another image
        at each shuffle), because batch normalization cannot train on one image.

        Yields:
            images float32 [B, C, H, W], normalized, and labels int64 [B], both on `device`.
        """
        _check_batch_size(batch_size)
        if not len(self.train_images):
            raise UsageError(
                f"{self.name}: it has only test images, so no teacher can be trained: give --teacher, or a data "
                "folder with train images"
            )
        order = torch.randperm(len(self.train_images), generator=generator, device=generator.device)
        rows = list(order.cpu().split(batch_size))
        if len(rows) > 1 and batch_size > 1 and len(rows[-1]) == 1:
            rows.pop()
        draw = generator if augment else None
        return (self._batch(self.train_images, self.train_labels, row, draw, device) for row in rows)

    def _batch(
        self,
        images: Tensor,
        labels: Tensor,
        rows: Tensor,
        generator: torch.Generator | None,
        device: torch.device | str,
    ) -> tuple[Tensor, Tensor]:
        # Copies bytes to the device, a quarter of the floats' size, and converts them there.
        batch = images[rows].to(device)
        if generator is not None and self.augment is not None:
            batch = self.augment(batch, generator)
        return self.normalize(batch), labels[rows].to(device)


def _check_batch_size(batch_size: int) -> None:
    if batch_size < 1:
        raise UsageError(f"batch_size must be at least 1, got {batch_size}")
