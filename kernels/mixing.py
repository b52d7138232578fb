r"""Convex combinations of the samples of a batch, several tensors in one launch.

.. math:: \tilde x_i = \lambda_i x_i + (1 - \lambda_i)\, x_{\pi(i)} \qquad
          \partial L/\partial x_i = \lambda_i g_i + (1 - \lambda_j)\, g_j, \quad j = \pi^{-1}(i)

The gradient is itself a mixture, by the inverse permutation and the partner's weight. It gathers; only the inverse is
found by an atomic maximum.

In the comments below, "[batch, sizes]" stands for a tensor ``[B, ...]``, whose dimensions after the first are merged.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl

from ._device import compute_dtype, narrow, offsets, tile, widen
from ._launch import launch
from ._layout import elementwise
from ._partners import (
    WARPS,
    inverse_of,
    lam_arguments,
    partner_of,
    stride_of,
    tile_of,
    weight_of,
)

# The kernel is unrolled over the tensors; longer lists take several launches.
_TENSORS = 8


@triton.jit
def _mix_tensor(
    program,  # int, index among the tensor's programs
    x,  # [batch, sizes]
    out,  # [batch, sizes], written
    batch_strides,  # 2 ints: x, out
    elements,  # int, product of sizes
    sizes,  # D ints
    x_strides,  # D ints
    out_strides,  # D ints
    lam,  # [batch] or 0-dim, or None if it was a scalar on the host
    lam_stride,  # int
    lam_value,  # float64, used if lam is None
    partners,  # int64 [batch]
    partners_stride,  # int
    batch,  # int
    PARTNERS_WEIGHT: tl.constexpr,  # whether the partner counts by its own 1 - lam
    ROWS: tl.constexpr,  # samples per program
    COLUMNS: tl.constexpr,  # elements of a sample per program
):
    dtype: tl.constexpr = compute_dtype(x.dtype.element_ty, x.dtype.element_ty)
    row, column = tile(program, elements, ROWS, COLUMNS)
    inside = row < batch
    partner, found = partner_of(partners, partners_stride, row, inside, batch)
    own = weight_of(lam, lam_stride, lam_value, row, inside)
    other = 1 - (weight_of(lam, lam_stride, lam_value, partner, found) if PARTNERS_WEIGHT else own)

    mask = inside[:, None] & (column < elements)[None, :]
    at = offsets(column, sizes, x_strides)[None, :]
    mine = widen(tl.load(x + (row * batch_strides[0])[:, None] + at, mask=mask, other=0), dtype)
    there = mask & found[:, None]
    theirs = widen(tl.load(x + (partner * batch_strides[0])[:, None] + at, mask=there, other=0), dtype)
    mixed = own.to(dtype)[:, None] * mine + other.to(dtype)[:, None] * theirs
    mixed = tl.where(found[:, None], mixed, float("nan"))
    out_at = (row * batch_strides[1])[:, None] + offsets(column, sizes, out_strides)[None, :]
    tl.store(out + out_at, narrow(mixed, out.dtype.element_ty), mask=mask)


@triton.jit
def _mix_kernel(
    tensors,  # per tensor [batch, sizes]
    outs,  # per tensor [batch, sizes], written
    batch_strides,  # per tensor 2 ints: tensor, out
    elements,  # int per tensor, product of its sizes
    sizes,  # per tensor D ints
    x_strides,  # per tensor D ints
    out_strides,  # per tensor D ints
    lam,  # [batch] or 0-dim, or None if it was a scalar on the host
    lam_stride,  # int
    lam_value: tl.float64,  # used if lam is None
    partners,  # int64 [batch]
    partners_stride,  # int
    batch,  # int
    PARTNERS_WEIGHT: tl.constexpr,  # whether the partner counts by its own 1 - lam
    TILES: tl.constexpr,  # per tensor 2 ints: samples and elements of a sample per program
):
    program = tl.program_id(0)
    first = 0
    for k in tl.static_range(len(tensors)):
        programs = tl.cdiv(batch, TILES[k][0]) * tl.cdiv(elements[k], TILES[k][1])
        if (program >= first) & (program < first + programs):
            _mix_tensor(
                program - first,
                tensors[k],
                outs[k],
                batch_strides[k],
                elements[k],
                sizes[k],
                x_strides[k],
                out_strides[k],
                lam,
                lam_stride,
                lam_value,
                partners,
                partners_stride,
                batch,
                PARTNERS_WEIGHT,
                TILES[k][0],
                TILES[k][1],
            )
        first += programs


def _mix(
    tensors: Sequence[torch.Tensor],
    lam: torch.Tensor,
    partners: torch.Tensor,
    outs: Sequence[torch.Tensor],
    partners_weight: bool,
) -> None:
    batch = partners.numel()
    filled = [k for k, x in enumerate(tensors) if x.numel() > 0]
    for group in (filled[i : i + _TENSORS] for i in range(0, len(filled), _TENSORS)):
        elements = tuple(tensors[k].numel() // batch for k in group)
        loops = [elementwise([outs[k], tensors[k]], first_dim=1) for k in group]
        tiles = tuple(tile_of(batch, n, *loop) for n, loop in zip(elements, loops, strict=True))
        launch(
            _mix_kernel,
            sum(
                triton.cdiv(batch, rows) * triton.cdiv(n, columns)
                for n, (rows, columns) in zip(elements, tiles, strict=True)
            ),
            partners,
            tuple(tensors[k] for k in group),
            tuple(outs[k] for k in group),
            tuple((tensors[k].stride(0), outs[k].stride(0)) for k in group),
            elements,
            tuple(sizes for sizes, _ in loops),
            tuple(strides[1] for _, strides in loops),
            tuple(strides[0] for _, strides in loops),
            *lam_arguments(lam),
            partners,
            stride_of(partners),
            batch,
            PARTNERS_WEIGHT=partners_weight,
            warps=WARPS,
            TILES=tiles,
        )


def mix(
    tensors: Sequence[torch.Tensor], lam: torch.Tensor, perm: torch.Tensor, outs: Sequence[torch.Tensor]
) -> None:
    """Write the mixtures.

    Args:
        tensors: ``[B, ...]`` each, floating-point, any strides.
        lam: ``[B]``, or a scalar on the device or the host.
        perm: int64 ``[B]``.
        outs: like ``empty_like`` of the tensors.
    """
    _mix(tensors, lam, perm, outs, partners_weight=False)


def gradient(
    grads: Sequence[torch.Tensor], lam: torch.Tensor, perm: torch.Tensor, outs: Sequence[torch.Tensor]
) -> None:
    """Write the gradients of the tensors that were mixed.

    Args:
        grads: gradients of the mixtures, ``[B, ...]`` each, any strides.
        lam: as for :func:`mix`.
        perm: as for :func:`mix`.
        outs: like ``empty_like`` of the gradients.
    """
    _mix(grads, lam, inverse_of(perm), outs, partners_weight=True)
