"""A checksum of nested values."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from hashlib import _Hash


def checksum(value: Any) -> str:
    """SHA-256 of nested dictionaries and sequences of tensors and plain values."""
    digest = hashlib.sha256()
    _feed(digest, value)
    return digest.hexdigest()


def _feed(digest: _Hash, value: Any) -> None:
    if isinstance(value, Tensor):
        x = value.detach().cpu().contiguous()
        digest.update(f"{x.dtype} {list(x.shape)}".encode())
        digest.update(x.reshape(-1).view(torch.uint8).numpy().data)
    elif isinstance(value, Mapping):
        digest.update(f"mapping of {len(value)}".encode())
        for key, entry in value.items():
            digest.update(repr(key).encode())
            _feed(digest, entry)
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        digest.update(f"sequence of {len(value)}".encode())
        for entry in value:
            _feed(digest, entry)
    else:
        digest.update(repr(value).encode())
