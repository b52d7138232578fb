r"""Mean and biased variance of each channel, all tensors in one launch, and their gradient.

.. math:: \mu_c = \frac1n \sum x, \quad \sigma^2_c = \frac1n \sum (x - \mu_c)^2, \qquad
          \partial L/\partial x = s_c (x - \mu_c) + l_c, \quad
          s_c = \frac2n\,\partial L/\partial\sigma^2_c, \quad l_c = \frac1n\,\partial L/\partial\mu_c

Each program of the first pass processes one block of a tensor's values and one block of its channels. It subtracts a
shift, the mean of its first values, before summing, and writes mean and squared deviations in float64. The second pass
combines the blocks of each channel in order. If channels are neighbors in memory, a tile spans several channels;
otherwise it holds values of one channel.

In the comments below, "[sizes]" stands for a tensor's values of one channel: all its dimensions but the channels,
merged.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl

from ._device import compute_dtype, narrow, offsets, product, widen
from ._launch import launch
from ._layout import Ints, block_of, elementwise, merge

# The kernels are unrolled over the tensors; longer lists take several launches.
_STAGES = 8
_TILE = 2048
_TILES = 8
_WARPS = 4
_CHANNELS = 64
_BLOCK = 128


@triton.jit
def _deviations(columns, there, first, shift, sizes, strides, rows, ROWS: tl.constexpr):
    """How far a tile's values are from their channels' shifts; 0 where there is no value."""
    row = first + tl.arange(0, ROWS)
    mask = (row < rows)[:, None] & there[None, :]
    at = columns[None, :] + offsets(row, sizes, strides)[:, None]
    return tl.where(mask, widen(tl.load(at, mask=mask, other=0), shift.dtype) - shift[None, :], 0)


@triton.jit
def _moments_stage(
    program,  # int, index among the tensor's programs
    x,  # [B, C, ...], any strides
    moments,  # float64 [blocks, 2, C], written: mean, sum of squared deviations
    sizes,  # D ints, all dimensions but the channels
    strides,  # D ints
    channel_stride,  # int
    channels,  # int, C
    ROWS: tl.constexpr,  # values of a channel per tile
    COLUMNS: tl.constexpr,  # channels per tile
    TILES: tl.constexpr,  # tiles per block
):
    dtype: tl.constexpr = compute_dtype(x.dtype.element_ty, x.dtype.element_ty)
    rows = product(sizes)
    column_blocks = tl.cdiv(channels, COLUMNS)
    block = (program // column_blocks).to(tl.int64)
    column = (program % column_blocks).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)
    there = column < channels
    first = block * (ROWS * TILES)
    columns = x + column * channel_stride

    # The shift is the mean of the first tile, since one value alone may be an outlier. The mean itself is computed
    # relative to the first value.
    one = tl.zeros((1,), tl.int64) + first
    shift = widen(tl.load(columns + offsets(one, sizes, strides), mask=there, other=0), dtype)
    d = _deviations(columns, there, first, shift, sizes, strides, rows, ROWS)
    shift += tl.sum(d, axis=0) / tl.minimum(rows - first, ROWS).to(dtype)
    shift = tl.where(tl.abs(shift) < float("inf"), shift, 0)
    total = tl.zeros((ROWS, COLUMNS), dtype)
    squares = tl.zeros((ROWS, COLUMNS), dtype)
    for t in range(TILES):
        d = _deviations(columns, there, first + t * ROWS, shift, sizes, strides, rows, ROWS)
        total += d
        squares += d * d

    count = tl.minimum(rows - first, ROWS * TILES).to(tl.float64)
    total = tl.sum(total.to(tl.float64), axis=0)
    squares = tl.sum(squares.to(tl.float64), axis=0)
    squares = squares - total * (total / count)
    out = moments + block * 2 * channels + column
    tl.store(out, shift.to(tl.float64) + total / count, mask=there)
    tl.store(out + channels, tl.where(squares < 0, 0, squares), mask=there)


@triton.jit
def _moments_kernel(
    features,  # per tensor [B, C, ...], any strides
    moments,  # float64, per tensor [blocks, 2, C], concatenated, written
    sizes,  # per tensor D ints
    strides,  # per tensor D ints
    channel_strides,  # int per tensor
    channels,  # int per tensor, C
    ROWS: tl.constexpr,  # int per tensor
    COLUMNS: tl.constexpr,  # int per tensor
    TILES: tl.constexpr,  # tiles per block
):
    program = tl.program_id(0)
    first = 0
    first_moment = tl.full((), 0, tl.int64)
    for k in tl.static_range(len(features)):
        blocks = tl.cdiv(product(sizes[k]), ROWS[k] * TILES)
        programs = (blocks * tl.cdiv(channels[k], COLUMNS[k])).to(tl.int32)
        if (program >= first) & (program < first + programs):
            _moments_stage(
                program - first,
                features[k],
                moments + first_moment,
                sizes[k],
                strides[k],
                channel_strides[k],
                channels[k],
                ROWS[k],
                COLUMNS[k],
                TILES,
            )
        first += programs
        first_moment += blocks * 2 * channels[k]


# For one tensor. moments: float64 [blocks, 2, C]. statistics: points to element [0, first channel] of [2, sum of C],
# written. rows: int, values per channel. channels: int, C. row: int, stride of the statistics' dimension 0.
# BLOCK_ROWS: values per block. BLOCK: channels per program.
@triton.jit
def _join_kernel(moments, statistics, rows, channels, row, BLOCK_ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """Join one tensor's moments: ``statistics`` is its first channel's mean, ``row`` further lies its variance."""
    channel = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    there = channel < channels
    rows = tl.cast(rows, tl.int64)
    blocks = tl.cdiv(rows, BLOCK_ROWS)
    step = tl.cast(channels, tl.int64) * 2

    mean = tl.zeros((BLOCK,), tl.float64)
    for b in range(blocks):
        count = tl.minimum(rows - b * BLOCK_ROWS, BLOCK_ROWS).to(tl.float64)
        mean += count * tl.load(moments + b * step + channel, mask=there, other=0)
    mean = mean / rows.to(tl.float64)
    squares = tl.zeros((BLOCK,), tl.float64)
    for b in range(blocks):
        count = tl.minimum(rows - b * BLOCK_ROWS, BLOCK_ROWS).to(tl.float64)
        distance = tl.load(moments + b * step + channel, mask=there, other=0) - mean
        own = tl.load(moments + b * step + channels + channel, mask=there, other=0)
        squares += own + count * (distance * distance)
    variance = squares / rows.to(tl.float64)
    tl.store(statistics + channel, narrow(mean, statistics.dtype.element_ty), mask=there)
    tl.store(statistics + row + channel, narrow(variance, statistics.dtype.element_ty), mask=there)


@triton.jit
def _gradient_stage(
    block,  # int, index of the block in the tensor
    grad,  # [2, C], strides grad_row and grad_channel
    x,  # [B, C, ...], any strides
    statistics,  # [C], the means
    out,  # like empty_like(x), written
    sizes,  # D ints, all dimensions in memory order of out
    strides,  # D ints, of x
    grad_row,  # int
    grad_channel,  # int
    channels,  # int, C
    inner,  # int, neighbors in memory of out that belong to one channel
    BLOCK: tl.constexpr,  # elements per program
):
    dtype: tl.constexpr = compute_dtype(x.dtype.element_ty, x.dtype.element_ty)
    count = product(sizes)
    index = tl.cast(block, tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = index < count
    channel = (index // inner) % channels
    values = (count // channels).to(tl.float64)
    by_mean = widen(tl.load(grad + channel * grad_channel, mask=inside, other=0), tl.float64)
    by_variance = widen(tl.load(grad + grad_row + channel * grad_channel, mask=inside, other=0), tl.float64)
    mean = tl.load(statistics + channel, mask=inside, other=0).to(dtype)
    slope = (2 * by_variance / values).to(dtype)
    level = (by_mean / values).to(dtype)
    v = widen(tl.load(x + offsets(index, sizes, strides), mask=inside, other=0), dtype)
    tl.store(out + index, narrow(slope * (v - mean) + level, out.dtype.element_ty), mask=inside)


@triton.jit
def _gradient_kernel(
    grad,  # [2, sum of C], strides grad_row and grad_channel
    features,  # per tensor [B, C, ...], any strides
    statistics,  # [2, sum of C], contiguous
    outs,  # per tensor like empty_like of its features, written
    sizes,  # per tensor D ints
    strides,  # per tensor D ints, of the features
    grad_row,  # int
    grad_channel,  # int
    channels,  # int per tensor, C
    inners,  # int per tensor
    firsts,  # int per tensor, index of its first channel in grad and statistics
    BLOCKS: tl.constexpr,  # int per tensor, elements per program
):
    program = tl.program_id(0)
    first = 0
    for k in tl.static_range(len(features)):
        programs = tl.cdiv(product(sizes[k]), BLOCKS[k])
        if (program >= first) & (program < first + programs):
            _gradient_stage(
                program - first,
                grad + tl.cast(firsts[k], tl.int64) * grad_channel,
                features[k],
                statistics + firsts[k],
                outs[k],
                sizes[k],
                strides[k],
                grad_row,
                grad_channel,
                channels[k],
                inners[k],
                BLOCKS[k],
            )
        first += programs


def _firsts(features: Sequence[torch.Tensor]) -> list[int]:
    """The place of each tensor's first channel among those of all."""
    firsts = [0]
    for x in features:
        firsts.append(firsts[-1] + x.shape[1])
    return firsts


def _groups(features: Sequence[torch.Tensor]) -> list[list[int]]:
    """Indices of the nonempty tensors, in groups that fit one launch."""
    filled = [k for k, x in enumerate(features) if x.numel() > 0]
    return [filled[i : i + _STAGES] for i in range(0, len(filled), _STAGES)]


def _rows(x: torch.Tensor) -> tuple[Ints, Ints]:
    """Sizes and strides of the loop over all dimensions but the channels, in memory order."""
    sizes = [n for d, n in enumerate(x.shape) if d != 1]
    strides = [n for d, n in enumerate(x.stride()) if d != 1]
    order = sorted(range(len(sizes)), key=strides.__getitem__, reverse=True)
    merged, (merged_strides,) = merge(sizes, [strides], order)
    return merged, merged_strides


def _tile(x: torch.Tensor) -> tuple[int, int]:
    """Rows and channels of a tile: several channels if they are neighbors in memory, otherwise one."""
    columns = min(triton.next_power_of_2(x.shape[1]), _CHANNELS) if x.stride(1) == 1 else 1
    rows = min(_TILE // columns, triton.next_power_of_2(max(x.numel() // x.shape[1], 1)))
    return rows, columns


def statistics(features: Sequence[torch.Tensor], out: torch.Tensor) -> None:
    """Write means and biased variances.

    Args:
        features: tensors ``[B, C, ...]``; float64, float32, float16 or bfloat16, any strides.
        out: ``[2, sum of C]``, contiguous, float32 or float64.
    """
    firsts = _firsts(features)
    for group in _groups(features):
        chosen = [features[k] for k in group]
        loops = [_rows(x) for x in chosen]
        tiles = [_tile(x) for x in chosen]
        blocks = [
            triton.cdiv(x.numel() // x.shape[1], rows * _TILES)
            for x, (rows, _) in zip(chosen, tiles, strict=True)
        ]
        sizes = [b * 2 * x.shape[1] for b, x in zip(blocks, chosen, strict=True)]
        moments = torch.empty(sum(sizes), dtype=torch.float64, device=out.device)
        launch(
            _moments_kernel,
            sum(
                b * triton.cdiv(x.shape[1], columns)
                for b, x, (_, columns) in zip(blocks, chosen, tiles, strict=True)
            ),
            out,
            tuple(chosen),
            moments,
            *zip(*loops, strict=True),
            tuple(x.stride(1) for x in chosen),
            tuple(x.shape[1] for x in chosen),
            warps=_WARPS,
            ROWS=tuple(rows for rows, _ in tiles),
            COLUMNS=tuple(columns for _, columns in tiles),
            TILES=_TILES,
        )
        for k, own, (rows, _) in zip(group, moments.split(sizes), tiles, strict=True):
            channels = features[k].shape[1]
            launch(
                _join_kernel,
                triton.cdiv(channels, _BLOCK),
                out,
                own,
                out[:, firsts[k] :],
                features[k].numel() // channels,
                channels,
                out.stride(0),
                warps=_WARPS,
                BLOCK_ROWS=rows * _TILES,
                BLOCK=_BLOCK,
            )
    for k, x in enumerate(features):
        if x.numel() == 0:
            out[:, firsts[k] : firsts[k + 1]] = float("nan")


def gradient(
    grad: torch.Tensor,
    features: Sequence[torch.Tensor],
    statistics: torch.Tensor,
    outs: Sequence[torch.Tensor],
) -> None:
    """Write the gradients.

    Args:
        grad: gradient of the statistics, ``[2, sum of C]``, any strides.
        features: as for :func:`statistics`.
        statistics: ``[2, sum of C]``, from :func:`statistics`.
        outs: per tensor like ``empty_like`` of its features.
    """
    firsts = _firsts(features)
    for group in _groups(features):
        loops = [elementwise([outs[k], features[k]]) for k in group]
        blocks = tuple(block_of(sizes, strides) for sizes, strides in loops)
        launch(
            _gradient_kernel,
            sum(triton.cdiv(features[k].numel(), block) for k, block in zip(group, blocks, strict=True)),
            grad,
            grad,
            tuple(features[k] for k in group),
            statistics,
            tuple(outs[k] for k in group),
            tuple(sizes for sizes, _ in loops),
            tuple(strides[1] for _, strides in loops),
            grad.stride(0),
            grad.stride(1),
            tuple(features[k].shape[1] for k in group),
            tuple(_inner(outs[k]) for k in group),
            tuple(firsts[k] for k in group),
            BLOCKS=blocks,
        )


def _inner(dense: torch.Tensor) -> int:
    """Number of neighbors in memory that belong to one channel."""
    return dense.stride(1) if dense.shape[1] > 1 else dense.numel()
