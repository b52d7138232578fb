"""Signs packed as bits: bit ``k & 7`` of byte ``k >> 3`` is 1 if element k is on, that is, not <= 0.

Elements are arranged in rows of 8, so that a row is one byte. Bits past the last element are 0.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def rows_of_eight(block, count, BLOCK: tl.constexpr):
    """Rows ``[BLOCK // 8]`` of a block, positions ``[BLOCK // 8, 8]`` of its elements, and which of these exist."""
    row = block.to(tl.int64) * (BLOCK // 8) + tl.arange(0, BLOCK // 8)
    index = row[:, None] * 8 + tl.arange(0, 8)[None, :]
    return row, index, index < count


@triton.jit
def store_bits(bits, row, on, inside, count):
    """Pack ``on & inside`` ``[rows, 8]`` into the bytes ``row`` ``[rows]`` of uint8 ``bits`` ``[ceil(count / 8)]``."""
    bit = tl.where(inside & on, 1, 0) << tl.arange(0, 8)[None, :]
    tl.store(bits + row, tl.sum(bit, axis=1).to(tl.uint8), mask=row * 8 < count)


@triton.jit
def load_bits(bits, row, count):
    """The bits ``[rows, 8]`` of the bytes ``row`` ``[rows]`` of uint8 ``bits`` ``[ceil(count / 8)]``, as booleans."""
    byte = tl.load(bits + row, mask=row * 8 < count, other=0).to(tl.int32)
    return ((byte[:, None] >> tl.arange(0, 8)[None, :]) & 1) != 0
