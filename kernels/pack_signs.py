"""The teacher's signs as bits, 1 if the element is on: not (t <= 0), so NaN is on. There is no gradient."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ._device import compute_dtype, offsets, product, widen
from ._launch import launch
from ._layout import block_of, elementwise, memory_order
from ._signs import rows_of_eight, store_bits


@triton.jit
def _pack_kernel(
    teacher,  # [sizes]
    signs,  # uint8 [ceil(elements / 8)], written
    sizes,  # D ints
    strides,  # D ints
    BLOCK: tl.constexpr,  # elements per program
):
    count = product(sizes)
    row, index, inside = rows_of_eight(tl.program_id(0), count, BLOCK)
    t = tl.load(teacher + offsets(index, sizes, strides), mask=inside, other=0)
    t = widen(t, compute_dtype(t.dtype, t.dtype))
    store_bits(signs, row, (t <= 0) == 0, inside, count)


def pack_signs(teacher: torch.Tensor, signs: torch.Tensor) -> None:
    """Write the bits of ``teacher``, of any shape and strides, into ``signs``, uint8 ``[ceil(elements / 8)]``.

    The bits follow the memory order of ``empty_like(teacher)``.
    """
    sizes, (_, strides) = elementwise([memory_order(teacher), teacher])
    block = block_of(sizes, [strides])
    launch(
        _pack_kernel, triton.cdiv(teacher.numel(), block), signs, teacher, signs, sizes, strides, BLOCK=block
    )
