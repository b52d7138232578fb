"""A file of numpy.savez with only test images, enough to evaluate on."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import torch

from dfad_fast.data.checks import check_labels
from dfad_fast.data.cifar_batches import SIZE, Split
from dfad_fast.errors import UsageError, in_one_line


def read_test_images(path: Path, classes: int) -> Split:
    """``images`` uint8 [N, 3, 32, 32] and integer ``labels`` [N] from a .npz file.

    Raises UsageError if the file cannot be read or the arrays have another form.
    """
    try:
        with np.load(path) as file:  # without pickles, which could run code
            images, labels = file["images"], file["labels"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UsageError(
            f"{path}: cannot be read ({in_one_line(error)}): expected arrays 'images' and 'labels'"
        ) from error
    if images.dtype != np.uint8 or images.shape[1:] != (3, SIZE, SIZE):
        raise UsageError(
            f"{path}: images must be uint8 [N, 3, {SIZE}, {SIZE}], got {images.dtype} {list(images.shape)}"
        )
    if labels.dtype.kind not in "ui":
        raise UsageError(f"{path}: labels must be integers, got {labels.dtype}")
    split = torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64))
    check_labels(split[1], len(images), classes, path)
    return split
