"""Device functions that the kernels share. All offsets are int64."""

from __future__ import annotations

import triton
import triton.language as tl

_INTERPRETED = tl.constexpr(triton.knobs.runtime.interpret)


@triton.constexpr_function
def compute_dtype(a: tl.dtype, b: tl.dtype) -> tl.dtype:
    """float64 if either dtype is float64, otherwise float32: 16-bit values are never summed in 16 bits."""
    return tl.float64 if tl.float64 in (a, b) else tl.float32


@triton.jit
def product(sizes):
    # Triton passes sizes that fit in 32 bits as int32, but their product may not fit.
    result = tl.cast(sizes[0], tl.int64)
    for d in tl.static_range(1, len(sizes)):
        result = result * sizes[d]
    return result


@triton.jit
def offsets(index, sizes, strides):
    """Offsets in memory of the loop's positions ``index``, in the shape of ``index``; ``sizes`` and ``strides`` are D
    ints. For one dimension of stride 1 the offset is the index itself."""
    result = tl.zeros_like(index)
    for d in tl.static_range(len(sizes) - 1, 0, -1):
        result += (index % sizes[d]) * strides[d]
        index = index // sizes[d]
    return result + index * strides[0]


@triton.jit
def tile(program, elements, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Rows ``[ROWS]`` and columns ``[COLUMNS]`` of this program, for rows of ``elements`` elements each."""
    column_blocks = tl.cdiv(tl.cast(elements, tl.int64), COLUMNS)
    row = (program // column_blocks).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = (program % column_blocks).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)
    return row, column


@triton.jit
def float64(bits):
    """Inverse of ``float64_bits`` for one number."""
    return tl.cast(bits, tl.int64).to(tl.float64, bitcast=True)


# The interpreter's own conversions truncate bfloat16 instead of rounding, and flush its subnormal numbers.
@triton.jit
def widen(x, dtype: tl.constexpr):
    if x.dtype == tl.bfloat16 and _INTERPRETED:
        x = (x.to(tl.uint16, bitcast=True).to(tl.uint32) << 16).to(tl.float32, bitcast=True)
    return x.to(dtype)


@triton.jit
def narrow(x, dtype: tl.constexpr):
    """Round to nearest even. Conversions to 16-bit types go through float32, as in PyTorch."""
    if dtype == tl.float16 or dtype == tl.bfloat16:
        x = x.to(tl.float32)
    if dtype == tl.bfloat16 and _INTERPRETED:
        bits = x.to(tl.uint32, bitcast=True)
        rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
        result = tl.where(x == x, rounded, 0x7FC0).to(tl.uint16).to(tl.bfloat16, bitcast=True)
    else:
        result = x.to(dtype)
    return result


@triton.jit
def scalar_gradient(grad, weight, count, MEAN: tl.constexpr):
    """The gradient of the 0-dim loss times the stage's weight, for a mean divided by ``count``, in float64."""
    scale = widen(tl.load(grad), tl.float64) * weight
    if MEAN:
        scale = scale / tl.cast(count, tl.float64)
    return scale
