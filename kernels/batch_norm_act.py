r"""Batch norm with residual and activation; each channel is normalized by its mean and biased variance.

.. math:: y = a(v), \quad v = (x - \mu)\,\gamma / \sqrt{\sigma^2 + \epsilon} + \beta + r, \quad
          a(v) = v \text{ for } v > 0 \text{ else } \mathrm{slope} \cdot v

With g the gradient before the activation and n values per channel,

.. math:: \partial x = s g + ((x - \mu)\,b + l), \quad s = \gamma / \sqrt{\sigma^2 + \epsilon}, \quad
          b = -\frac{s \sum g (x - \mu)}{n (\sigma^2 + \epsilon)}, \quad l = -\frac{s}{n} \sum g

Forward reads x twice: to compute its statistics, and to apply them. Chunks are summed in the compute dtype and combined
in float64, in a fixed order. Backward first computes its two sums and writes the residual's gradient, then writes the
gradient of x.

In the comments below, "dense" tensors ``[B, C, ...]`` have the strides of ``empty_like(x)``. The compute dtype is
float64 if x is float64, otherwise float32.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ._channel_tiles import (
    WARPS,
    Tiles,
    block_at,
    laid_out,
    per_channel,
    place,
    store_part,
    tile_sum,
    tiles_of,
    values_in,
)
from ._device import compute_dtype, narrow, widen
from ._launch import launch

_FINISHED_CHANNELS = 8
_FINISHED_CHUNKS = 128


@triton.jit
def _distances(x, of, first_row, start, at, there, shift, PLANES: tl.constexpr, ROWS: tl.constexpr):
    """How far a block's values are from the shift; 0 where there is no value."""
    where, inside = block_at(of, first_row, start, at, there, ROWS)
    value = widen(tl.load(x + where, mask=inside, other=0), shift.dtype)
    return tl.where(inside, value - per_channel(shift, PLANES), 0)


@triton.jit
def _shift(
    x, of, chunk, first_row, at, there, PLANES: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):
    """The shift per channel that is subtracted before summing, to keep precision if values are far from 0.

    It is the mean of the chunk's first rows, since one value alone may be an outlier; 0 if that mean is not finite.
    """
    dtype: tl.constexpr = compute_dtype(x.dtype.element_ty, x.dtype.element_ty)
    row = x + first_row * of[1] * of[2]
    one = tl.load(row + tl.min(at)) if PLANES else tl.load(row + at, mask=there, other=0)
    one = widen(one, dtype)
    off = _distances(x, of, first_row, 0, at, there, one, PLANES, ROWS)
    values = values_in(chunk, of, ROWS, PLANES, COLUMNS)
    mean = one + tile_sum(off, PLANES) / values.to(dtype)
    return tl.where(mean - mean == 0, mean, 0)


@triton.jit
def _moments_kernel(
    x,  # [B, C, ...], dense
    parts,  # [3, chunks, C] in the compute dtype: shift, sum, sum of squares, the sums after subtracting the shift
    of,  # 5 ints, Tiles.numbers
    chunks,  # int
    PLANES: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    dtype: tl.constexpr = compute_dtype(x.dtype.element_ty, x.dtype.element_ty)
    chunk, channel, first_row, at, there = place(of, PLANES, ROWS, COLUMNS)
    channels = of[1]
    shift = _shift(x, of, chunk, first_row, at, there, PLANES, ROWS, COLUMNS)
    sums = tl.zeros((ROWS, COLUMNS), dtype)
    squares = tl.zeros((ROWS, COLUMNS), dtype)
    for start in range(0, of[3], ROWS):
        off = _distances(x, of, first_row, start, at, there, shift, PLANES, ROWS)
        sums += off
        squares += off * off
    part = tl.cast(chunks, tl.int64) * channels
    store_part(parts, chunk, channel, channels, shift, PLANES)
    store_part(parts + part, chunk, channel, channels, tile_sum(sums, PLANES), PLANES)
    store_part(parts + 2 * part, chunk, channel, channels, tile_sum(squares, PLANES), PLANES)


@triton.jit
def _part(parts, k: tl.constexpr, chunk, chunks, channel, channels):
    """``parts[k]`` of these chunks and channels, float64 ``[chunk's size, channel's size]``; 0 outside."""
    inside = (chunk < chunks)[:, None] & (channel < channels)[None, :]
    at = (tl.cast(chunks, tl.int64) * k + chunk)[:, None] * channels + channel[None, :]
    return tl.load(parts + at, mask=inside, other=0).to(tl.float64)


@triton.jit
def _statistics_kernel(
    parts,  # [3, chunks, C] in the compute dtype, from _moments_kernel
    statistics,  # [2, C] in the compute dtype, written
    of,  # 5 ints, Tiles.numbers
    chunks,  # int
    PLANES: tl.constexpr,
    COLUMNS: tl.constexpr,
    CHUNKS: tl.constexpr,  # chunks per step
    CHANNELS: tl.constexpr,  # channels per program
):
    channels = of[1]
    channel = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)
    count = tl.cast(of[0], tl.float64) * of[2]
    sums = tl.zeros((CHUNKS, CHANNELS), tl.float64)
    for start in range(0, chunks, CHUNKS):
        chunk = start + tl.arange(0, CHUNKS)
        values = values_in(chunk, of, of[3], PLANES, COLUMNS)[:, None]
        shift = _part(parts, 0, chunk, chunks, channel, channels)
        sums += values * shift + _part(parts, 1, chunk, chunks, channel, channels)
    mean = tl.sum(sums, axis=0) / count
    squares = tl.zeros((CHUNKS, CHANNELS), tl.float64)
    for start in range(0, chunks, CHUNKS):
        chunk = start + tl.arange(0, CHUNKS)
        values = values_in(chunk, of, of[3], PLANES, COLUMNS)[:, None]
        off = mean[None, :] - _part(parts, 0, chunk, chunks, channel, channels)
        sum = _part(parts, 1, chunk, chunks, channel, channels)
        square = _part(parts, 2, chunk, chunks, channel, channels)
        squares += tl.where((chunk < chunks)[:, None], square - off * (2 * sum - values * off), 0)
    variance = tl.sum(squares, axis=0) / count
    variance = tl.where(variance < 0, 0, variance)  # unlike maximum, this keeps NaN
    dtype: tl.constexpr = statistics.dtype.element_ty
    there = channel < channels
    tl.store(statistics + channel, mean.to(dtype), mask=there)
    tl.store(statistics + channels + channel, variance.to(dtype), mask=there)


@triton.jit
def _rstd(statistics, channel, channels, eps):
    variance = tl.load(statistics + channels + channel, mask=channel < channels, other=1).to(tl.float64)
    return 1.0 / tl.sqrt(variance + eps)


@triton.jit
def _scale(statistics, weight, channel, channels, eps):
    scale = _rstd(statistics, channel, channels, eps)
    if weight is not None:
        scale = widen(tl.load(weight + channel, mask=channel < channels, other=0), tl.float64) * scale
    return scale


@triton.jit
def _constants(statistics, weight, bias, channel, channels, eps, PLANES: tl.constexpr):
    """Mean, scale and bias of the program's channels, in the compute dtype, shaped to broadcast with a block."""
    dtype: tl.constexpr = statistics.dtype.element_ty
    mean = tl.load(statistics + channel, mask=channel < channels, other=0)
    scale = _scale(statistics, weight, channel, channels, eps).to(dtype)
    shift = tl.zeros_like(mean)
    if bias is not None:
        # The bias may have any floating dtype. Its conversion to float64 is exact.
        shift = widen(tl.load(bias + channel, mask=channel < channels, other=0), tl.float64).to(dtype)
    return per_channel(mean, PLANES), per_channel(scale, PLANES), per_channel(shift, PLANES)


@triton.jit
def _activated(value, off, slope, SLOPE: tl.constexpr):
    """Applies to the activation's input and to its output's gradient. Not a product for a ReLU: 0 times inf is NaN."""
    if SLOPE == "zero":
        result = tl.where(off, 0, value)
    elif SLOPE == "one":
        result = value
    else:
        result = tl.where(off, value * slope, value)
    return result


@triton.jit
def _apply_kernel(
    x,  # [B, C, ...], dense
    residual,  # [B, C, ...], dense, or None
    weight,  # [C], or None for 1
    bias,  # [C], or None for 0
    statistics,  # [2, C] in the compute dtype: mean, biased variance
    out,  # [B, C, ...], dense, written
    of,  # 5 ints, Tiles.numbers
    slope: tl.float64,
    eps: tl.float64,
    SLOPE: tl.constexpr,  # "zero", "one" or another value
    PLANES: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    dtype: tl.constexpr = statistics.dtype.element_ty
    _chunk, channel, first_row, at, there = place(of, PLANES, ROWS, COLUMNS)
    mean, scale, shift = _constants(statistics, weight, bias, channel, of[1], eps, PLANES)
    negative = tl.full((), slope, tl.float64).to(dtype)
    for start in range(0, of[3], ROWS):
        where, inside = block_at(of, first_row, start, at, there, ROWS)
        y = (widen(tl.load(x + where, mask=inside, other=0), dtype) - mean) * scale + shift
        if residual is not None:
            y += widen(tl.load(residual + where, mask=inside, other=0), dtype)
        y = _activated(y, y <= 0, negative, SLOPE)
        tl.store(out + where, narrow(y, out.dtype.element_ty), mask=inside)


@triton.jit
def _before_activation(grad, value, out, where, inside, mean, scale, shift, slope, SLOPE: tl.constexpr):
    """The gradient before the activation, ``[ROWS, COLUMNS]``.

    The sign of the activation's input comes from ``out``, or is recomputed from x if ``out`` is None.
    """
    dtype: tl.constexpr = value.dtype
    g = widen(tl.load(grad + where, mask=inside, other=0), dtype)
    if SLOPE != "one":
        if out is not None:
            y = widen(tl.load(out + where, mask=inside, other=0), dtype)
        else:
            y = (value - mean) * scale + shift
        g = _activated(g, y <= 0, slope, SLOPE)
    return g


@triton.jit
def _sums_kernel(
    grad,  # [B, C, ...], dense
    x,  # [B, C, ...], dense
    out,  # [B, C, ...], dense, the forward's output; or None
    weight,  # [C], or None for 1
    bias,  # [C], or None for 0
    statistics,  # [2, C] in the compute dtype: mean, biased variance
    residual_grad,  # [B, C, ...], dense, written; or None
    parts,  # [2, chunks, C] in the compute dtype, written: sums of g and of g (x - mean); or None
    of,  # 5 ints, Tiles.numbers
    chunks,  # int
    slope: tl.float64,
    eps: tl.float64,
    SLOPE: tl.constexpr,
    PLANES: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    dtype: tl.constexpr = statistics.dtype.element_ty
    chunk, channel, first_row, at, there = place(of, PLANES, ROWS, COLUMNS)
    channels = of[1]
    mean, scale, shift = _constants(statistics, weight, bias, channel, channels, eps, PLANES)
    negative = tl.full((), slope, tl.float64).to(dtype)
    sums = tl.zeros((ROWS, COLUMNS), dtype)
    products = tl.zeros((ROWS, COLUMNS), dtype)
    for start in range(0, of[3], ROWS):
        where, inside = block_at(of, first_row, start, at, there, ROWS)
        value = widen(tl.load(x + where, mask=inside, other=0), dtype)
        g = _before_activation(grad, value, out, where, inside, mean, scale, shift, negative, SLOPE)
        if residual_grad is not None:
            tl.store(residual_grad + where, narrow(g, residual_grad.dtype.element_ty), mask=inside)
        if parts is not None:
            sums += tl.where(inside, g, 0)
            products += tl.where(inside, g * (value - mean), 0)
    if parts is not None:
        store_part(parts, chunk, channel, channels, tile_sum(sums, PLANES), PLANES)
        parts += tl.cast(chunks, tl.int64) * channels
        store_part(parts, chunk, channel, channels, tile_sum(products, PLANES), PLANES)


@triton.jit
def _finish_kernel(
    parts,  # [2, chunks, C] in the compute dtype, from _sums_kernel
    weight,  # [C], or None for 1
    statistics,  # [2, C] in the compute dtype: mean, biased variance
    weight_grad,  # [C], written; or None
    bias_grad,  # [C], written; or None
    through,  # [2, C] in the compute dtype, written: b and l of the formula; or None
    of,  # 5 ints, Tiles.numbers
    chunks,  # int
    eps: tl.float64,
    CHUNKS: tl.constexpr,  # chunks per step
    CHANNELS: tl.constexpr,  # channels per program
):
    channels = of[1]
    channel = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)
    sums = tl.zeros((CHUNKS, CHANNELS), tl.float64)
    products = tl.zeros((CHUNKS, CHANNELS), tl.float64)
    for start in range(0, chunks, CHUNKS):
        chunk = start + tl.arange(0, CHUNKS)
        sums += _part(parts, 0, chunk, chunks, channel, channels)
        products += _part(parts, 1, chunk, chunks, channel, channels)
    grad, product = tl.sum(sums, axis=0), tl.sum(products, axis=0)
    rstd = _rstd(statistics, channel, channels, eps)
    there = channel < channels
    if weight_grad is not None:
        tl.store(weight_grad + channel, narrow(rstd * product, weight_grad.dtype.element_ty), mask=there)
    if bias_grad is not None:
        tl.store(bias_grad + channel, narrow(grad, bias_grad.dtype.element_ty), mask=there)
    if through is not None:
        dtype: tl.constexpr = through.dtype.element_ty
        share = 1.0 / (tl.cast(of[0], tl.float64) * of[2])
        scale = -_scale(statistics, weight, channel, channels, eps)
        tl.store(through + channel, (scale * rstd * rstd * product * share).to(dtype), mask=there)
        tl.store(through + channels + channel, (scale * grad * share).to(dtype), mask=there)


@triton.jit
def _gradient_kernel(
    grad,  # [B, C, ...], dense
    x,  # [B, C, ...], dense
    out,  # [B, C, ...], dense, the forward's output; or None
    weight,  # [C], or None for 1
    bias,  # [C], or None for 0
    statistics,  # [2, C] in the compute dtype: mean, biased variance
    through,  # [2, C] in the compute dtype, from _finish_kernel; or None for constant statistics
    x_grad,  # [B, C, ...], dense, written
    of,  # 5 ints, Tiles.numbers
    slope: tl.float64,
    eps: tl.float64,
    SLOPE: tl.constexpr,
    PLANES: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    dtype: tl.constexpr = statistics.dtype.element_ty
    _chunk, channel, first_row, at, there = place(of, PLANES, ROWS, COLUMNS)
    channels = of[1]
    mean, scale, shift = _constants(statistics, weight, bias, channel, channels, eps, PLANES)
    negative = tl.full((), slope, tl.float64).to(dtype)
    if through is not None:
        by_x = per_channel(tl.load(through + channel, mask=channel < channels, other=0), PLANES)
        level = per_channel(tl.load(through + channels + channel, mask=channel < channels, other=0), PLANES)
    for start in range(0, of[3], ROWS):
        where, inside = block_at(of, first_row, start, at, there, ROWS)
        value = widen(tl.load(x + where, mask=inside, other=0), dtype)
        g = _before_activation(grad, value, out, where, inside, mean, scale, shift, negative, SLOPE) * scale
        if through is not None:
            g += (value - mean) * by_x + level
        tl.store(x_grad + where, narrow(g, x_grad.dtype.element_ty), mask=inside)


def _slope(slope: float) -> dict[str, str]:
    return {"SLOPE": {0.0: "zero", 1.0: "one"}.get(slope, "between")}


def _contiguous(x: torch.Tensor | None) -> torch.Tensor | None:
    return None if x is None else x.contiguous()


def _finish_arguments(of: Tiles) -> tuple[int, dict[str, int]]:
    """Number of programs and the constants of a second pass."""
    chunks = min(triton.next_power_of_2(max(of.chunks, 1)), _FINISHED_CHUNKS)
    return triton.cdiv(of.count, _FINISHED_CHANNELS), {"CHUNKS": chunks, "CHANNELS": _FINISHED_CHANNELS}


def _find_statistics(of: Tiles, x: torch.Tensor, statistics: torch.Tensor) -> None:
    parts = statistics.new_empty(3, of.chunks, of.count)
    launch(
        _moments_kernel,
        of.programs,
        x,
        x,
        parts,
        of.numbers,
        of.chunks,
        warps=WARPS,
        **of.constants,
    )
    programs, constants = _finish_arguments(of)
    launch(
        _statistics_kernel,
        programs,
        x,
        parts,
        statistics,
        of.numbers,
        of.chunks,
        warps=WARPS,
        PLANES=of.planes,
        COLUMNS=of.columns,
        **constants,
    )


def forward(
    x: torch.Tensor,
    residual: torch.Tensor | None,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    known: bool,
    slope: float,
    eps: float,
    out: torch.Tensor,
    statistics: torch.Tensor,
) -> None:
    """Write the output, and the statistics unless they are known.

    Args:
        x: ``[B, C, ...]``; float64, float32, float16 or bfloat16, any strides.
        residual: same shape and dtype as x, any strides, or None.
        weight: ``[C]``, or None for 1.
        bias: ``[C]``, or None for 0.
        known: whether ``statistics`` are already filled in.
        slope: slope of the activation below 0.
        eps: added to the variance.
        out: like ``empty_like(x)``.
        statistics: ``[2, C]``, mean and biased variance, in float32 (float64 if x is float64).
    """
    x = laid_out(x, out)
    if residual is not None:
        residual = laid_out(residual, out)
    of = tiles_of(x)
    if not known:
        _find_statistics(of, x, statistics)
    launch(
        _apply_kernel,
        of.programs,
        x,
        x,
        residual,
        _contiguous(weight),
        _contiguous(bias),
        statistics,
        out,
        of.numbers,
        slope,
        eps,
        warps=WARPS,
        **_slope(slope),
        **of.constants,
    )


def gradient(
    grad: torch.Tensor,
    x: torch.Tensor,
    out: torch.Tensor | None,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    statistics: torch.Tensor,
    constant: bool,
    slope: float,
    eps: float,
    x_grad: torch.Tensor | None,
    residual_grad: torch.Tensor | None,
    weight_grad: torch.Tensor | None,
    bias_grad: torch.Tensor | None,
) -> None:
    """Write the gradients that are not None.

    Args:
        grad: gradient of the output, ``[B, C, ...]``, any strides.
        x, weight, bias, slope, eps: as for :func:`forward`.
        out: the output of :func:`forward`, needed if there are a residual and an activation; otherwise None.
        statistics: ``[2, C]``, from :func:`forward`.
        constant: whether the statistics do not depend on x.
        x_grad: like ``empty_like(x)``.
        residual_grad: like ``empty_like(x)``.
        weight_grad: ``[C]``.
        bias_grad: ``[C]``.
    """
    grad, out = laid_out(grad, x), None if out is None else laid_out(out, x)
    x = laid_out(x, x)
    weight, bias, statistics = _contiguous(weight), _contiguous(bias), statistics.contiguous()
    of = tiles_of(x)
    through_statistics = x_grad is not None and not constant
    summed = through_statistics or weight_grad is not None or bias_grad is not None
    parts = statistics.new_empty(2, of.chunks, of.count) if summed else None
    through = torch.empty_like(statistics) if through_statistics else None
    if summed or residual_grad is not None:
        launch(
            _sums_kernel,
            of.programs,
            x,
            grad,
            x,
            out,
            weight,
            bias,
            statistics,
            residual_grad,
            parts,
            of.numbers,
            of.chunks,
            slope,
            eps,
            warps=WARPS,
            **_slope(slope),
            **of.constants,
        )
    if summed:
        programs, constants = _finish_arguments(of)
        launch(
            _finish_kernel,
            programs,
            x,
            parts,
            weight,
            statistics,
            weight_grad,
            bias_grad,
            through,
            of.numbers,
            of.chunks,
            eps,
            warps=WARPS,
            **constants,
        )
    if x_grad is None:
        return
    if residual_grad is not None:
        # residual_grad already holds the gradient before the activation.
        grad, out, slope = residual_grad, None, 1.0
    launch(
        _gradient_kernel,
        of.programs,
        x,
        grad,
        x,
        out,
        weight,
        bias,
        statistics,
        through,
        x_grad,
        of.numbers,
        slope,
        eps,
        warps=WARPS,
        **_slope(slope),
        **of.constants,
    )
