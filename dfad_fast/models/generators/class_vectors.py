"""Vectors that stand for classes: drawn at random, or embeddings of the classes' names from a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dfad_fast.errors import UsageError, in_one_line
from dfad_fast.models.loading.weights_file import read_weights

_LENGTH = 128


def random_class_vectors(classes: int) -> Tensor:
    """Independent normally distributed vectors [classes, max(128, classes)], nearly orthogonal to each other, from
    torch's global generator, as the weights of a new layer."""
    return torch.randn(classes, max(_LENGTH, classes))


def read_class_vectors(path: str | Path, classes: int) -> Tensor:
    """The vectors [classes, D] in float32 that a .npy, .npz or .safetensors file holds, in the teacher's order of
    classes: the file's only array, or that named ``vectors``.

    Such as embeddings of the classes' names by a language model. Raises UsageError for a file that is missing or cannot
    be read, and for one that holds no such array.
    """
    path = Path(path)
    if path.suffix not in (".npy", ".npz", ".safetensors"):
        raise UsageError(f"class vectors come from a .npy, .npz or .safetensors file, got {path}")
    if not path.is_file():
        raise UsageError(f"no file of class vectors {path}: expected an array [{classes}, D]")
    found = _only(path, read_weights(path) if path.suffix == ".safetensors" else _read_numpy(path))
    if found.dim() != 2 or len(found) != classes or not found.shape[1]:
        raise UsageError(
            f"{path} holds an array {list(found.shape)}: expected a vector for each of the teacher's {classes} "
            f"classes, [{classes}, D]"
        )
    if not found.isfinite().all():
        raise UsageError(f"{path} holds class vectors that are not finite")
    return found


def _read_numpy(path: Path) -> Any:
    try:
        content = np.load(path, allow_pickle=False)
        return content if isinstance(content, np.ndarray) else {key: content[key] for key in content.files}
    except Exception as error:  # numpy's own differ by what is wrong
        raise UsageError(f"{path} cannot be read as class vectors: {in_one_line(error)}") from error


def _only(path: Path, content: Any) -> Tensor:
    if isinstance(content, Mapping):
        if len(content) != 1 and "vectors" not in content:
            names = ", ".join(sorted(content)) or "none"
            raise UsageError(f"{path} has to hold one array, or one named vectors, got {names}")
        content = content["vectors"] if "vectors" in content else next(iter(content.values()))
    if isinstance(content, np.ndarray):
        if content.dtype.kind not in "fiu":
            raise UsageError(f"{path} holds {content.dtype}: expected numbers")
        content = torch.from_numpy(np.ascontiguousarray(content, dtype=np.float32))
    vectors: Tensor = content
    return vectors.float()
