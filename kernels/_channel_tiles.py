"""How programs traverse a dense tensor channel by channel; csrc/cuda/channel_tiles.cuh has the same plan.

A dense tensor ``[B, C, ...]`` is ``[outer, C, inner]`` in memory. If inner is 1, each row is one run of all channels;
otherwise it is one run per channel (``PLANES``). A program processes a tile: neighbors of one run, in a chunk of the
rows. The plan depends only on the sizes, so the sums do not depend on the grid or the device.

The argument ``of`` of the kernels is (outer, channels, inner, chunk_rows, tiles), 5 ints.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl

from ._layout import memory_order

# Elements of a tile per step. With 4 warps each thread gets at least 16 bytes, even for bfloat16.
WARPS = 4
_TILE = 2048
_CHANNELS = 64
_NEIGHBORS = 32
_ENOUGH_PROGRAMS = 1024
_MOST_STEPS = 64


@triton.jit
def place(of, PLANES: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """The position of this program's tile.

    Returns the chunk, the channel (a scalar for a plane, otherwise ``[COLUMNS]``), the first row, and per column, as
    ``[COLUMNS]``, the offset within a row and whether the column is inside the run.
    """
    _outer, channels, inner, chunk_rows, tiles = of
    program = tl.program_id(0)
    if PLANES:
        row_chunk = program // (tiles * channels)
        run = program // tiles % channels
        tile = program % tiles
        along = tl.cast(tile, tl.int64) * COLUMNS + tl.arange(0, COLUMNS)
        chunk, channel = row_chunk * tiles + tile, run
        at, there = tl.cast(run, tl.int64) * inner + along, along < inner
    else:
        row_chunk = program // tiles
        chunk, channel = row_chunk, program % tiles * COLUMNS + tl.arange(0, COLUMNS)
        at, there = channel.to(tl.int64), channel < channels
    return chunk, channel, tl.cast(row_chunk, tl.int64) * chunk_rows, at, there


@triton.jit
def block_at(of, first_row, start, at, there, ROWS: tl.constexpr):
    """Offsets ``[ROWS, COLUMNS]`` of the next rows of the tile, and which of them are inside the tensor.

    ``at`` and ``there`` are ``[COLUMNS]``, from :func:`place`.
    """
    outer, channels, inner, _chunk_rows, _tiles = of
    row = first_row + start + tl.arange(0, ROWS)
    length = tl.cast(channels, tl.int64) * inner
    return (row * length)[:, None] + at[None, :], (row < outer)[:, None] & there[None, :]


@triton.jit
def per_channel(values, PLANES: tl.constexpr):
    """A value per channel (a scalar for a plane, otherwise ``[COLUMNS]``), shaped to broadcast with a block."""
    return values if PLANES else values[None, :]


@triton.jit
def tile_sum(block, PLANES: tl.constexpr):
    """The sum of a block ``[ROWS, COLUMNS]`` per channel: a scalar for a plane, otherwise ``[COLUMNS]``."""
    return tl.sum(block) if PLANES else tl.sum(block, axis=0)


@triton.jit
def store_part(to, chunk, channel, channels, value, PLANES: tl.constexpr):
    """Store a value per channel in ``to[chunk][channel]``; ``to`` is ``[chunks, channels]``."""
    at = to + tl.cast(chunk, tl.int64) * channels + channel
    if PLANES:
        tl.store(at, value)
    else:
        tl.store(at, value, mask=channel < channels)


@triton.jit
def values_in(chunk, of, rows, PLANES: tl.constexpr, COLUMNS: tl.constexpr):
    """How many values of one channel lie in the first ``rows`` rows of each chunk, in float64."""
    outer, _channels, inner, chunk_rows, tiles = of
    chunk = tl.cast(chunk, tl.int64)
    if PLANES:
        row_chunk = chunk // tiles
        columns = tl.minimum(inner - (chunk % tiles) * COLUMNS, COLUMNS)
    else:
        row_chunk, columns = chunk, 1
    return tl.minimum(outer - row_chunk * chunk_rows, rows).to(tl.float64) * columns


@dataclass(frozen=True)
class Tiles:
    """The plan for a tensor. The kernels take ``numbers`` (their argument ``of``) and ``constants``."""

    outer: int
    count: int
    inner: int
    rows: int
    columns: int
    tiles: int
    chunk_rows: int

    @property
    def planes(self) -> bool:
        return self.inner > 1

    @property
    def values(self) -> int:
        """How many values a channel has."""
        return self.outer * self.inner

    @property
    def row_chunks(self) -> int:
        return triton.cdiv(self.outer, self.chunk_rows)

    @property
    def chunks(self) -> int:
        """Number of partial sums per channel."""
        return self.row_chunks * (self.tiles if self.planes else 1)

    @property
    def programs(self) -> int:
        return self.chunks * (self.count if self.planes else self.tiles)

    @property
    def numbers(self) -> tuple[int, ...]:
        return self.outer, self.count, self.inner, self.chunk_rows, self.tiles

    @property
    def constants(self) -> dict[str, Any]:
        return {"PLANES": self.planes, "ROWS": self.rows, "COLUMNS": self.columns}


def _columns(run: int) -> int:
    """How many columns a tile has: many neighbors, of which few are past the run's end."""
    widest = min(triton.next_power_of_2(run), _TILE)

    def idle(columns: int) -> int:
        return triton.cdiv(run, columns) * columns - run

    best = columns = widest
    while columns >= _NEIGHBORS and idle(best) > run // 8:
        if idle(columns) < idle(best):
            best = columns
        columns //= 2
    return best


def tiles_of(x: torch.Tensor) -> Tiles:
    """The plan for a dense tensor ``[B, C, ...]``."""
    count = x.shape[1]
    inner = max(x.numel(), 1) if count == 1 else x.stride(1)
    outer = x.numel() // (count * inner)
    if inner > 1:
        columns = _columns(inner)
        tiles = triton.cdiv(inner, columns)
    else:
        columns = min(triton.next_power_of_2(count), _CHANNELS)
        tiles = triton.cdiv(count, columns)
    rows = min(_TILE // columns, triton.next_power_of_2(max(outer, 1)))
    side_by_side = tiles * count if inner > 1 else tiles
    steps = triton.cdiv(outer, rows) * side_by_side // _ENOUGH_PROGRAMS
    return Tiles(outer, count, inner, rows, columns, tiles, rows * min(max(steps, 1), _MOST_STEPS))


def laid_out(x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """x with the strides of ``empty_like(like)``: x itself or a copy."""
    strides = memory_order(like).stride()
    if all(n == 1 or a == b for n, a, b in zip(x.shape, x.stride(), strides, strict=True)):
        return x
    return torch.empty_strided(x.shape, strides, dtype=x.dtype, device=x.device).copy_(x)
