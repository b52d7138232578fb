"""Test images of the user's own, with their classes: a folder for each class, or an .npz."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dfad_fast.data import Dataset, dataset_names
from dfad_fast.data.image_folder import subfolders
from dfad_fast.errors import UsageError, in_one_line
from dfad_fast.sources.folder.reading.archive import open_archive, read_archive
from dfad_fast.sources.folder.reading.files import find_images, read_files
from dfad_fast.sources.folder.reading.fitting import MODES
from dfad_fast.sources.folder.reading.image_set import refuse_too_many
from dfad_fast.wording import counted

_LABELS = "labels"
_FEWER = "evaluate on fewer"
_BYTES = 5  # per value: as it is read, and in float32
_SPLITS = {"train", "training", "val", "valid", "validation", "test"}


def is_path(evaluate: str) -> bool:
    """Whether the setting ``evaluate`` is a path, and not the name of a dataset."""
    if evaluate in dataset_names():
        return False
    path = os.path.expanduser(evaluate)
    return bool(os.path.dirname(path)) or path.endswith(".npz") or os.path.exists(path)


def refuse_unreadable(path: str, mean: tuple[float, ...] | None, std: tuple[float, ...] | None) -> None:
    """Raises UsageError, without reading images, if there is nothing at ``path`` or no ``mean`` and ``std``."""
    if not os.path.exists(os.path.expanduser(path)):
        raise UsageError(
            f"no file or folder {path}: give a folder of test images, an .npz, or a dataset's name"
        )
    if mean is None or std is None:
        raise UsageError(
            f"{path}: how the teacher's images were normalized is unknown: give --mean and --std"
        )


def read_own(
    path: str,
    shape: tuple[int, int, int],
    classes: int,
    mean: tuple[float, ...] | None,
    std: tuple[float, ...] | None,
) -> Dataset:
    """A dataset that has only test images, fitted to ``shape``: cropped to its aspect and resized.

    A folder has a subfolder of images for each class; labels follow the sorted names. An .npz holds ``images`` in the
    forms of the source ``folder``, and whole numbers ``labels`` [N] below ``classes``.

    Raises UsageError for anything else, for an image that cannot be read, and without ``mean`` and ``std``.
    """
    refuse_unreadable(path, mean, std)
    assert mean is not None
    assert std is not None
    place = Path(os.path.expanduser(path))
    if shape[0] not in MODES:
        raise UsageError(
            f"images in files are gray or RGB, but the teacher's have {shape[0]} channels: evaluate in Python"
        )
    if place.is_dir():
        names = _class_folders(place, classes)
        images, labels = _read_folders(place, names, shape)
    else:
        names = tuple(map(str, range(classes)))
        images, labels = _read_arrays(place, shape)
    pixels = torch.from_numpy(images)
    return Dataset(
        name=str(place),
        train_images=pixels[:0],
        train_labels=torch.empty(0, dtype=torch.int64),
        test_images=pixels,
        test_labels=torch.from_numpy(labels),
        classes=names,
        mean=mean,
        std=std,
    )


def _class_folders(place: Path, classes: int) -> tuple[str, ...]:
    try:
        names = subfolders(place)
    except OSError as error:
        raise UsageError(f"{place} cannot be read ({error.strerror})") from error
    if not names:
        raise UsageError(f"{place} has no subfolders: expected one for each class, with its test images")
    if {name.lower() for name in names} <= _SPLITS:
        raise UsageError(f"{place} has the folders {', '.join(names)}: give the one with the test images")
    if len(names) != classes:
        raise UsageError(
            f"{place} has {counted(len(names), 'subfolder')}, but the teacher knows {classes} classes: give one for "
            "each"
        )
    return names


def _read_folders(
    place: Path, names: tuple[str, ...], shape: tuple[int, int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    files = [find_images(place / name) for name in names]
    count = sum(map(len, files))
    refuse_too_many(place, count, shape, count * math.prod(shape) * _BYTES, _FEWER)
    images, labels = [], []
    for label, own in enumerate(files):
        pixels, errors = read_files(own, shape)
        if errors:  # accuracy on the remaining ones would be another measure
            raise errors[0]
        images.append(pixels)
        labels.append(np.full(len(pixels), label, np.int64))
    return np.concatenate(images), np.concatenate(labels)


def _read_arrays(place: Path, shape: tuple[int, int, int]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    archive = open_archive(place)
    needed = len(archive) * math.prod(shape) * _BYTES + archive.bytes
    refuse_too_many(place, len(archive), shape, needed, _FEWER)
    try:
        with np.load(place, allow_pickle=False) as file:
            labels = file[_LABELS]
    except Exception as error:  # damaged files raise many types, of zipfile, zlib and NumPy
        raise UsageError(
            f"{place}: expected an array {_LABELS!r} of whole numbers [N] ({in_one_line(error)})"
        ) from error
    if labels.dtype.kind not in "ui" or labels.ndim != 1:
        raise UsageError(
            f"{place}: {_LABELS} must be whole numbers [N], got {labels.dtype} {list(labels.shape)}"
        )
    return read_archive(archive, np.arange(len(archive)), shape), labels.astype(np.int64)
