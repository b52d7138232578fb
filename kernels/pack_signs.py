"""The teacher's signs as bits, 1 where the element is on: not (t <= 0), so NaN is on. It has no gradient."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ._device import compute_dtype, offsets, product, widen
from ._launch import launch
from ._layout import block_of, elementwise, memory_order
from ._signs import rows_of_eight, store_bits


@triton.jit
def _pack_kernel(teacher, signs, sizes, strides, BLOCK: tl.constexpr):
    count = product(sizes)
    row, index, inside = rows_of_eight(tl.program_id(0), count, BLOCK)
    t = tl.load(teacher + offsets(index, sizes, strides), mask=inside, other=0)
    t = widen(t, compute_dtype(t.dtype, t.dtype))
    store_bits(signs, row, (t <= 0) == 0, inside, count)


def pack_signs(teacher: torch.Tensor, signs: torch.Tensor) -> None:
    """Write the bits of ``teacher`` into uint8 ``signs``, in the memory order of ``empty_like(teacher)``."""
    sizes, (_, strides) = elementwise([memory_order(teacher), teacher])
    block = block_of(sizes, [strides])
    launch(
        _pack_kernel, triton.cdiv(teacher.numel(), block), signs, teacher, signs, sizes, strides, BLOCK=block
    )
