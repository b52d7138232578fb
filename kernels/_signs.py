"""Signs packed as bits: bit ``k & 7`` of byte ``k >> 3`` is 1 where element k is on, that is, not <= 0.

Elements are looked at as rows of 8, so that a row is one byte. Bits past the last element are 0.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def rows_of_eight(block, count, BLOCK: tl.constexpr):
    """Positions ``[BLOCK // 8, 8]`` of a block's elements, and which of them are there."""
    row = block.to(tl.int64) * (BLOCK // 8) + tl.arange(0, BLOCK // 8)
    index = row[:, None] * 8 + tl.arange(0, 8)[None, :]
    return row, index, index < count


@triton.jit
def store_bits(bits, row, on, inside, count):
    bit = tl.where(inside & on, 1, 0) << tl.arange(0, 8)[None, :]
    tl.store(bits + row, tl.sum(bit, axis=1).to(tl.uint8), mask=row * 8 < count)


@triton.jit
def load_bits(bits, row, count):
    byte = tl.load(bits + row, mask=row * 8 < count, other=0).to(tl.int32)
    return ((byte[:, None] >> tl.arange(0, 8)[None, :]) & 1) != 0
