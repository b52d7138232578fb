"""Helpers to mix a batch on the device: each sample's weight, and the row of its partner.

The host does not check ``perm``, because it would have to wait for the device. A row whose index is out of range has no
partner: it becomes NaN, and no memory outside the batch is read.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import triton
import triton.language as tl

from ._device import widen
from ._launch import launch
from ._layout import Ints, wide

# Warps of a program that serves a tile of rows and columns: on every GPU a thread gets 16 bytes at least of bfloat16.
WARPS = 4
_TILE = 2048
_BLOCK = 1024


@triton.jit
def weight_of(lam, stride, value, index, there):
    """lam of the samples ``index`` in float64: from the tensor ``lam``, or ``value`` if it was a scalar on the host."""
    if lam is None:
        weight = tl.full(index.shape, value, tl.float64)
    else:
        weight = widen(tl.load(lam + index * stride, mask=there, other=0), tl.float64)
    return weight


@triton.jit
def partner_of(partners, stride, row, inside, batch):
    """The partner's row, and whether it exists, in the shape of ``row``. ``partners`` is int64 ``[batch]``."""
    partner = tl.load(partners + row * stride, mask=inside, other=-1)
    found = (partner >= 0) & (partner < batch)
    return tl.where(found, partner, 0), found


@triton.jit
def _inverse_kernel(
    perm,  # int64 [batch], any stride
    stride,  # int, stride of perm
    inverse,  # int64 [batch], contiguous, filled with -1
    batch,  # int
    BLOCK: tl.constexpr,  # rows per program
):
    row = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    partner, found = partner_of(perm, stride, row, row < batch, batch)
    tl.atomic_max(inverse + partner, row, mask=found)


def inverse_of(perm: torch.Tensor) -> torch.Tensor:
    """The inverse permutation, int64 ``[batch]``, with -1 where ``perm`` does not point.

    Where rows share a partner it is the last of them, so the result does not depend on the order of writes.
    """
    inverse = torch.full_like(perm, -1, memory_format=torch.contiguous_format)
    batch = perm.numel()
    launch(
        _inverse_kernel, triton.cdiv(batch, _BLOCK), perm, perm, stride_of(perm), inverse, batch, BLOCK=_BLOCK
    )
    return inverse


def lam_arguments(lam: torch.Tensor) -> tuple[torch.Tensor | None, int, float]:
    """Tensor, stride and value for ``weight_of``. Only a scalar on the host is read, so this never waits."""
    if lam.dim() == 0 and lam.device.type == "cpu":
        return None, 0, lam.item()
    return lam, stride_of(lam), 0.0


def stride_of(x: torch.Tensor) -> int:
    """The stride of a tensor with one element or one dimension; 0 for one element."""
    return x.stride(0) if x.dim() == 1 else 0


def tile_of(batch: int, elements: int, sizes: Ints, strides: Iterable[Ints]) -> tuple[int, int]:
    """Samples and elements per sample in one program's tile, for samples of ``elements`` elements; see ``block_of``."""
    tile = _TILE if wide(sizes, strides) else _TILE // 4
    columns = min(triton.next_power_of_2(elements), tile)
    return min(tile // columns, triton.next_power_of_2(batch)), columns
