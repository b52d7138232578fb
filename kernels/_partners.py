"""What mixing a batch needs on the device: each sample's weight, and its partner's place.

``perm`` is not checked by the host, which would have to wait for the device. An index out of range has no partner:
its row becomes NaN, and nothing foreign is read.
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
    """lam of these samples in float64: from the tensor, or the one ``value`` where it lay on the host."""
    if lam is None:
        weight = tl.full(index.shape, value, tl.float64)
    else:
        weight = widen(tl.load(lam + index * stride, mask=there, other=0), tl.float64)
    return weight


@triton.jit
def partner_of(partners, stride, row, inside, batch):
    """The partner's row, and whether there is one."""
    partner = tl.load(partners + row * stride, mask=inside, other=-1)
    found = (partner >= 0) & (partner < batch)
    return tl.where(found, partner, 0), found


@triton.jit
def _inverse_kernel(perm, stride, inverse, batch, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    partner, found = partner_of(perm, stride, row, row < batch, batch)
    tl.store(inverse + partner, row, mask=found)


def inverse_of(perm: torch.Tensor) -> torch.Tensor:
    """The inverse permutation; -1 for what ``perm`` does not reach. A permutation writes each place once."""
    inverse = torch.full_like(perm, -1, memory_format=torch.contiguous_format)
    batch = perm.numel()
    launch(
        _inverse_kernel, triton.cdiv(batch, _BLOCK), perm, perm, stride_of(perm), inverse, batch, BLOCK=_BLOCK
    )
    return inverse


def lam_arguments(lam: torch.Tensor) -> tuple[torch.Tensor | None, int, float]:
    """Tensor, stride and value for ``weight_of``. Reading a scalar that is on the host waits for nothing."""
    if lam.dim() == 0 and lam.device.type == "cpu":
        return None, 0, lam.item()
    return lam, stride_of(lam), 0.0


def stride_of(x: torch.Tensor) -> int:
    """The stride of a tensor with one element or one dimension; 0 for one element."""
    return x.stride(0) if x.dim() == 1 else 0


def tile_of(batch: int, elements: int, sizes: Ints, strides: Iterable[Ints]) -> tuple[int, int]:
    """Samples and elements of one program's tile, for samples of so many elements; see ``block_of``."""
    tile = _TILE if wide(sizes, strides) else _TILE // 4
    columns = min(triton.next_power_of_2(elements), tile)
    return min(tile // columns, triton.next_power_of_2(batch)), columns
