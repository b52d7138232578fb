"""The idx format of MNIST and its relatives, plain or packed with gzip."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import torch
from torch import Tensor

from dfad_fast.data.checks import read_bytes
from dfad_fast.errors import UsageError

_UNSIGNED_BYTE = 0x08


def read_idx(path: Path, dims: int) -> Tensor:
    """Read an idx file (`.gz`: unpacked first) of unsigned bytes with `dims` dimensions into a uint8 tensor.

    Raises:
        UsageError: the file cannot be read, is of another kind, or its size differs from its header.
    """
    data = read_bytes(path)
    # Two zero bytes, the element type, the number of dimensions, then each dimension as a big-endian uint32.
    header = 4 + 4 * dims
    magic = bytes([0, 0, _UNSIGNED_BYTE, dims])
    if len(data) < header:
        raise UsageError(f"{path}: ends within its header ({len(data)} bytes); fetch the file again")
    if data[:4] != magic:
        raise UsageError(
            f"{path}: expected an idx file of bytes in {dims} dimension(s), beginning with 0x{magic.hex()}; "
            f"this one begins with 0x{data[:4].hex()}"
        )
    shape = struct.unpack(f">{dims}I", data[4:header])
    expected = header + math.prod(shape)
    if len(data) != expected:
        size = "x".join(map(str, shape))
        raise UsageError(
            f"{path}: its header says {size}, which makes {expected} bytes, but it has {len(data)}; "
            "fetch the file again"
        )
    # bytearray, because torch warns about read-only memory.
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)[header:].view(shape)
