r"""The second pass of a reduction: one program adds the blocks' sums, always in the same order.

The first pass writes one float64 per block of elements. So the result does not depend on the grid or the device, and
there are no atomics. The second pass applies the weights and the mean's 1/n:

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
    partials,  # float64 [sum of blocks], or None
    agreed,  # float64 [sum of blocks], or None
    blocks,  # int per stage
    counts,  # int per stage, elements
    weights,  # int64 per stage, the bits of a float64
    loss,  # 0-dim, or None
    agreement,  # float32 [stages], or None
    MEAN: tl.constexpr,
    BLOCK: tl.constexpr,  # partial sums per step
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
    """Write the 0-dim ``loss`` and the stages' ``agreement``, each unless it is None.

    Args:
        partials: float64 ``[sum of blocks]``, the blocks' sums, stage after stage; None if there are no blocks.
        agreed: float64 ``[sum of blocks]``, the number of elements that agree in each block.
        blocks: number of blocks of each stage.
        counts: number of elements of each stage; 0 gives NaN for a mean and for the agreement.
        weights: factor of each stage.
        mean: whether to divide each stage's sum by its count.
        loss: 0-dim, any floating dtype.
        agreement: float32 ``[stages]``, in [0, 1].
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
