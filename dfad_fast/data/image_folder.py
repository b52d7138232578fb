"""A tree of PNG files: `train/<class>/*.png` and `test/<class>/*.png`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dfad_fast.data.image_file import opened_image
from dfad_fast.errors import UsageError


def is_image_folder(folder: Path) -> bool:
    """Whether `folder` contains both `train` and `test`."""
    return (folder / "train").is_dir() and (folder / "test").is_dir()


def class_names(folder: Path) -> tuple[str, ...]:
    """The names of the class folders, sorted: a class's label is its index.

    Raises:
        UsageError: train and test have different classes.
    """
    train, test = (subfolders(folder / split) for split in ("train", "test"))
    if train != test:
        odd = ", ".join(sorted(set(train) ^ set(test)))
        raise UsageError(
            f"{folder}: train and test must have the same classes, but only one of them has {odd}"
        )
    return train


def read_split(folder: Path, classes: tuple[str, ...], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Read `folder/<class>/*.png` in the order of classes, then file names.

    Args:
        folder: where the classes' folders are.
        classes: their names, in the order of the labels.
        size: the (height, width) that every image must have.

    Returns:
        images uint8 [N, 3, H, W], converted to RGB from gray, palettes or transparency, and labels int64 [N].

    Raises:
        UsageError: a class has no PNG file, or a file is damaged, of another size or of 16 bits per pixel.
    """
    pixels: list[NDArray[np.uint8]] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        files = sorted(path for path in (folder / name).iterdir() if path.suffix.lower() == ".png")
        if not files:
            raise UsageError(f"{folder / name}: no .png file for class {name!r}; add its images or remove it")
        pixels += [_read_png(path, size) for path in files]
        labels += [label] * len(files)
    images = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous()
    return images, torch.tensor(labels, dtype=torch.int64)


def subfolders(folder: Path) -> tuple[str, ...]:
    """Their names, sorted, without hidden ones."""
    return tuple(sorted(path.name for path in folder.iterdir() if path.is_dir() and path.name[0] != "."))


def _read_png(path: Path, size: tuple[int, int]) -> NDArray[np.uint8]:
    """uint8 [H, W, 3]."""
    with opened_image(path, ("PNG",)) as image:
        # Compared before the pixels are decoded: a small file can claim a huge image.
        if (image.height, image.width) != size:
            got = f"{image.height}x{image.width}"
            raise UsageError(f"{path}: expected {size[0]}x{size[1]} pixels, got {got}; resize it")
        return np.asarray(image.convert("RGB"))
