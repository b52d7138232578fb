"""Host side: one loop over several tensors of equal sizes, with as few dimensions as their strides allow.

Kernels take such a loop as ``sizes`` and, per tensor, ``strides``: D ints each, for the D merged dimensions. A kernel's
comment "[sizes]" stands for a tensor of these sizes that is addressed by its strides.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

Ints = tuple[int, ...]


def merge(
    sizes: Sequence[int], strides: Sequence[Sequence[int]], order: Iterable[int]
) -> tuple[Ints, list[Ints]]:
    """The dimensions in ``order``, outermost first; neighbors are merged if the strides of every tensor allow it.

    Returns the merged sizes and, per tensor, the merged strides. There is always at least one dimension. If all tensors
    are dense with equal strides, it is the only one and has stride 1.
    """
    merged_sizes: list[int] = []
    merged: list[list[int]] = [[] for _ in strides]
    for d in order:
        if sizes[d] == 1:
            continue
        if merged_sizes and all(m[-1] == s[d] * sizes[d] for m, s in zip(merged, strides, strict=True)):
            merged_sizes[-1] *= sizes[d]
            for m, s in zip(merged, strides, strict=True):
                m[-1] = s[d]
        else:
            merged_sizes.append(sizes[d])
            for m, s in zip(merged, strides, strict=True):
                m.append(s[d])
    if not merged_sizes:
        return (1,), [(1,)] * len(strides)
    return tuple(merged_sizes), [tuple(m) for m in merged]


def elementwise(tensors: Sequence[torch.Tensor], first_dim: int = 0) -> tuple[Ints, list[Ints]]:
    """One loop over tensors of equal sizes in the first one's memory order, from dimension ``first_dim`` on."""
    first = tensors[0]
    if first_dim == 0 and all(x.is_contiguous() for x in tensors):
        return (first.numel(),), [(1,)] * len(tensors)
    dims = range(first_dim, first.dim())
    order = sorted(dims, key=first.stride, reverse=True)
    return merge(first.shape, [x.stride() for x in tensors], order)


def memory_order(x: torch.Tensor) -> torch.Tensor:
    """A tensor with the strides of ``empty_like(x)``, the memory order of packed signs. Only its strides are valid."""
    return x if x.is_contiguous() else torch.empty_like(x, device="meta")


def wide(sizes: Ints, strides: Iterable[Ints]) -> bool:
    """Whether a thread can load 16 bytes at once: all tensors share one dense dimension, a multiple of 16 elements."""
    return len(sizes) == 1 and sizes[0] % 16 == 0 and all(s == (1,) for s in strides)


def block_of(sizes: Ints, strides: Iterable[Ints]) -> int:
    """Elements per program; fewer if they are loaded one by one, since their addresses take registers."""
    return 4096 if wide(sizes, strides) else 1024
