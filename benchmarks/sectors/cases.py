"""The calls whose requests are counted: each op on tensors that lie in several ways."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dfad_fast import ops

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
FEATURES = (4, 32, 8, 8)
Way = Callable[[tuple[int, ...], torch.dtype, int], Tensor]  # shape, dtype, which of the op's tensors


def _dense(shape: tuple[int, ...], dtype: torch.dtype, index: int) -> Tensor:
    return torch.randn(shape).to(dtype)


def _off_by_four_bytes(shape: tuple[int, ...], dtype: torch.dtype, index: int) -> Tensor:
    off, count = 4 // dtype.itemsize, math.prod(shape)
    return torch.empty(off + count, dtype=dtype)[off:].view(shape).copy_(torch.randn(shape))


def _mixed(shape: tuple[int, ...], dtype: torch.dtype, index: int) -> Tensor:
    """The first one contiguous, the others channels_last."""
    x = _dense(shape, dtype, index)
    return x if index == 0 else x.to(memory_format=torch.channels_last)


# Name, shape, and how the tensors lie.
LAYOUTS: dict[str, tuple[tuple[int, ...], Way]] = {
    "aligned": (FEATURES, _dense),
    "off by 4 bytes": (FEATURES, _off_by_four_bytes),
    "mixed layout": (FEATURES, _mixed),
    "10 classes": ((512, 10), _dense),
    "1,000 classes": ((8, 1000), _dense),
}


@dataclass(frozen=True)
class Op:
    """An op as a function of so many tensors of one shape, all of which get a gradient that ``leaves`` names."""

    call: Callable[..., Tensor | Sequence[Tensor]]
    tensors: int
    leaves: tuple[int, ...]


def _rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """lam and perm."""
    return torch.rand(len(x)), torch.randperm(len(x))


OPS = {
    "boundary_hinge_loss": Op(lambda s, t: ops.boundary_hinge_loss(s, t), 2, (0,)),
    "boundary_hinge_loss packed": Op(lambda s, t: ops.boundary_hinge_loss(s, ops.pack_signs(t)), 2, (0,)),
    "l1_discrepancy": Op(lambda s, t: ops.l1_discrepancy(s, t), 2, (0, 1)),
    "l1_discrepancy none": Op(lambda s, t: ops.l1_discrepancy(s, t, "none"), 2, (0, 1)),
    "kl_discrepancy": Op(lambda s, t: ops.kl_discrepancy(s, t, 2.0), 2, (0, 1)),
    "interpolated_l1": Op(lambda s, t: ops.interpolated_l1(s, t, *_rows(s)), 2, (0, 1)),
    "mixup": Op(lambda x: ops.mixup(x, *_rows(x)), 1, (0,)),
    "channel_statistics": Op(lambda x: ops.channel_statistics(x), 1, (0,)),
    "batch_norm_act": Op(lambda x, r: ops.batch_norm_act(x, residual=r), 2, (0, 1)),
}


@dataclass(frozen=True)
class Case:
    op: str
    dtype: str
    layout: str

    @property
    def there(self) -> bool:
        """A single tensor lies in one way."""
        return self.layout != "mixed layout" or OPS[self.op].tensors > 1

    def tensors(self) -> list[Tensor]:
        """As many as the op takes; those that get a gradient require one."""
        shape, way = LAYOUTS[self.layout]
        op = OPS[self.op]
        made = [way(shape, DTYPES[self.dtype], index) for index in range(op.tensors)]
        return [x.requires_grad_(index in op.leaves) for index, x in enumerate(made)]


CASES = tuple(
    case for op in OPS for dtype in DTYPES for layout in LAYOUTS if (case := Case(op, dtype, layout)).there
)
