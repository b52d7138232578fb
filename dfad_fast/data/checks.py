"""Checks for all readers. Each error is one line that begins with the file or set at fault."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import torch
from torch import Tensor

from dfad_fast.errors import UsageError


def check_labels(labels: Tensor, images: int, classes: int, source: str | Path) -> None:
    """Raise UsageError unless `labels` is int64 [images], not empty, with values in 0 .. classes - 1."""
    if labels.dtype != torch.int64 or labels.dim() != 1:
        raise UsageError(f"{source}: labels must be int64 [N], got {labels.dtype} {list(labels.shape)}")
    if len(labels) != images:
        raise UsageError(f"{source}: {len(labels)} labels for {images} images; there must be one for each")
    if images == 0:
        raise UsageError(f"{source}: it holds no images")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        bad = low if low < 0 else high
        raise UsageError(f"{source}: labels must be 0 to {classes - 1}, found {bad}")


def read_bytes(path: Path) -> bytes:
    """The whole content of a file, unpacked if its name ends in `.gz`; UsageError if it cannot be read."""
    try:
        if path.suffix == ".gz":
            with gzip.open(path) as packed:
                return packed.read()
        return path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"{path}: cannot be read ({error}); fetch the file again") from error
