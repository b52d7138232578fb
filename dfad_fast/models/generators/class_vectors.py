"""One vector per class: random, or embeddings of the class names from a file."""

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
    """Independent normally distributed vectors [classes, max(128, classes)], nearly orthogonal to each other.

    They are drawn from torch's global generator like a new layer's weights.
    """
    return torch.randn(classes, max(_LENGTH, classes))


def read_class_vectors(path: str | Path, classes: int) -> Tensor:
    """Reads vectors [classes, D] in the teacher's class order from a .npy, .npz or .safetensors file, as float32.

    They are the file's only array, or the one named ``vectors``.

    They may be a language model's embeddings of the class names. Raises UsageError if the file is missing, unreadable
    or has no such array.
    """
    path = Path(path)
    if path.suffix not in (".npy", ".npz", ".safetensors"):
        raise UsageError(f"class vectors must be a .npy, .npz or .safetensors file, got {path}")
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
    except Exception as error:  # NumPy raises many types
        raise UsageError(f"{path} cannot be read as class vectors: {in_one_line(error)}") from error


def _only(path: Path, content: Any) -> Tensor:
    if isinstance(content, Mapping):
        if len(content) != 1 and "vectors" not in content:
            names = ", ".join(sorted(content)) or "none"
            raise UsageError(f"{path} must hold one array, or one named vectors, got {names}")
        content = content["vectors"] if "vectors" in content else next(iter(content.values()))
    if isinstance(content, np.ndarray):
        if content.dtype.kind not in "fiu":
            raise UsageError(f"{path} holds {content.dtype}: expected numbers")
        content = torch.from_numpy(np.ascontiguousarray(content, dtype=np.float32))
    vectors: Tensor = content
    return vectors.float()
