"""Batches of labeled images as common loaders return them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dfad_fast.errors import UsageError, in_one_line

Batches = Iterable[Any]
"""Batches of images [B, C, H, W] (floating) and labels [B] (integers): pairs, dictionaries, or longer tuples in which
only one entry can be the images and only one the labels."""

_IMAGE_KEYS = ("image", "images", "img", "pixel_values")
_LABEL_KEYS = ("label", "labels", "target", "targets")
_EXPECTED = "expected batches (images [B, C, H, W], labels [B])"


def refuse_single_batch(batches: object) -> None:
    """Raises UsageError for a single batch, or an object that holds no batches."""
    parts = list(batches) if isinstance(batches, tuple | list) else []
    if isinstance(batches, Mapping | Tensor) or (parts and all(_is_array(part) for part in parts)):
        raise UsageError(
            f"evaluate= is a single batch: {_EXPECTED}: put it in a list, evaluate=[(images, labels)]"
        )
    if not isinstance(batches, Iterable) and not hasattr(batches, "__getitem__"):
        raise UsageError(f"evaluate= is {type(batches).__name__}: {_EXPECTED}, such as a DataLoader's")


def read_batches(batches: Batches) -> Iterator[tuple[Tensor, Tensor]]:
    """Each batch's images [B, C, H, W], floating, and labels int64 [B]. Raises UsageError for other batches."""
    for batch in batches:
        yield read_batch(batch)


def read_batch(batch: object) -> tuple[Tensor, Tensor]:
    """Images [B, C, H, W], floating, and labels int64 [B], on their devices. Raises UsageError for other forms."""
    images, labels = _parts(batch)
    images = _images(images)
    labels = _labels(labels)
    if len(labels) != len(images):
        raise UsageError(f"a test batch has {len(labels)} labels for {len(images)} images: give one for each")
    return images, labels


def refuse_unknown_labels(labels: Tensor, classes: int) -> None:
    """Raises UsageError unless all labels are from 0 to ``classes - 1``."""
    if len(labels) and (int(labels.min()) < 0 or int(labels.max()) >= classes):
        raise UsageError(
            f"test labels go from {int(labels.min())} to {int(labels.max())} but the teacher answers classes 0 to "
            f"{classes - 1}: evaluate on the teacher's own classes, numbered from 0"
        )


def _parts(batch: object) -> tuple[object, object]:
    if isinstance(batch, Mapping):
        found = [[key for key in keys if key in batch] for keys in (_IMAGE_KEYS, _LABEL_KEYS)]
        if all(len(keys) == 1 for keys in found):
            return batch[found[0][0]], batch[found[1][0]]
        raise UsageError(
            f"a test batch is a dictionary with {', '.join(map(repr, batch))}: {_EXPECTED}, or a dictionary with one "
            f"of {', '.join(_IMAGE_KEYS)} and one of {', '.join(_LABEL_KEYS)}"
        )
    if isinstance(batch, tuple | list) and len(batch) == 2:
        return batch[0], batch[1]
    if isinstance(batch, tuple | list):
        images = [part for part in batch if _is_array(part) and len(part.shape) == 4]
        labels = [part for part in batch if _may_be_labels(part)]
        if len(images) == len(labels) == 1:
            return images[0], labels[0]
    raise UsageError(f"a test batch is {_describe(batch)}: {_EXPECTED}: let the loader return these two")


def _is_array(value: Any) -> bool:
    return isinstance(value, Tensor | np.ndarray)


def _may_be_labels(value: Any) -> bool:
    if not _is_array(value) or len(value.shape) not in (1, 2):
        return False
    column = len(value.shape) == 1 or value.shape[1] == 1
    return column and not _as_tensor(value, "labels").is_floating_point()


def _describe(batch: object) -> str:
    if isinstance(batch, tuple | list):
        kinds = ", ".join(
            f"{_kind(part)} {list(part.shape)}" if _is_array(part) else type(part).__name__
            for part in batch[:6]
        )
        return f"{len(batch)} entries ({kinds}{', ...' if len(batch) > 6 else ''})"
    return f"{_kind(batch)} {list(batch.shape)}" if isinstance(batch, Tensor) else type(batch).__name__


def _kind(value: Any) -> str:
    return str(getattr(value, "dtype", type(value).__name__)).removeprefix("torch.")


def _as_tensor(value: object, what: str) -> Tensor:
    try:
        return value if isinstance(value, Tensor) else torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"test {what} are not a tensor but {type(value).__name__} ({in_one_line(error, 80)}): {_EXPECTED}"
        ) from error


def _images(value: object) -> Tensor:
    images = _as_tensor(value, "images")
    if images.dim() != 4:
        hint = ": a dataset returns single images, so wrap it in a DataLoader" if images.dim() == 3 else ""
        raise UsageError(f"test images are {list(images.shape)}: {_EXPECTED}{hint}")
    if not images.is_floating_point():
        raise UsageError(
            f"test images are {_kind(images)}: give floating-point images, normalized like the teacher's training "
            "images"
        )
    if not bool(images.isfinite().all()):
        raise UsageError("test images hold NaN or infinite values: give finite ones")
    return images


def _labels(value: object) -> Tensor:
    labels = _as_tensor(value, "labels")
    if labels.dim() == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.dim() == 2:
        raise UsageError(
            f"test labels are {list(labels.shape)}, which looks one-hot: give one class index for each image, "
            "labels.argmax(1)"
        )
    if labels.dim() != 1:
        raise UsageError(f"test labels are {list(labels.shape)}: give one class index for each image, [B]")
    if labels.is_floating_point() or labels.is_complex():
        raise UsageError(f"test labels are {_kind(labels)}: give class indices, which are integers")
    return labels.long()
