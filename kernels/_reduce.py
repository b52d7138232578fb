r"""The second pass of a reduction: one program adds the blocks' sums, always in the same order.

The first pass leaves one float64 per block of elements, so neither the grid nor the device enters the result, and
there are no atomics. Weights and the mean's 1/n are applied here:

.. math:: L = \sum_k w_k \left(\frac1{n_k}\right) \sum_b \mathrm{partial}_{k,b}
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl

from ._device import float64, narrow
from ._launch import float64_bits, launch

_BLOCK = 4096


@triton.jit
def _sum(partials, first, blocks, BLOCK: tl.constexpr):
    total = tl.zeros((BLOCK,), tl.float64)
    if partials is not None:
        for start in range(0, blocks, BLOCK):
            block = start + tl.arange(0, BLOCK)
            total += tl.load(partials + first + block, mask=block < blocks, other=0)
    return tl.sum(total)


@triton.jit(do_not_specialize=["blocks", "counts", "weights"])
def _finish_kernel(
    partials, agreed, blocks, counts, weights, loss, agreement, MEAN: tl.constexpr, BLOCK: tl.constexpr
):
    total = tl.full((), 0, tl.float64)
    first = 0
    for k in tl.static_range(len(counts)):
        count = tl.cast(counts[k], tl.float64)
        if loss is not None:
            stage = _sum(partials, first, blocks[k], BLOCK)
            if MEAN:
                stage = stage / count
            total += float64(weights[k]) * stage
        if agreement is not None:
            tl.store(agreement + k, (_sum(agreed, first, blocks[k], BLOCK) / count).to(tl.float32))
        first += blocks[k]
    if loss is not None:
        tl.store(loss, narrow(total, loss.dtype.element_ty))


def finish(
    partials: torch.Tensor | None,
    agreed: torch.Tensor | None,
    blocks: Sequence[int],
    counts: Sequence[int],
    weights: Sequence[float],
    mean: bool,
    loss: torch.Tensor | None,
    agreement: torch.Tensor | None,
) -> None:
    """Write the 0-dim ``loss`` and the stages' ``agreement``, each where it is wanted.

    Args:
        partials: float64, the blocks' sums, stage after stage; None where there is no block.
        agreed: float64, the blocks' numbers of elements that agree.
        blocks: blocks of each stage.
        counts: elements of each stage; 0 gives NaN for a mean and for the agreement.
        weights: factor of each stage.
    """
    out = loss if loss is not None else agreement
    if out is None:
        return
    launch(
        _finish_kernel,
        1,
        out,
        partials,
        agreed,
        tuple(blocks),
        tuple(counts),
        float64_bits(weights),
        loss,
        agreement,
        MEAN=mean,
        BLOCK=_BLOCK,
    )
