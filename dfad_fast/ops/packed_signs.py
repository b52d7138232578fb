"""The signs of a teacher's pre-activations, one bit per element.

The activation boundary depends only on whether the teacher's neuron is on, so its features can be freed at once. The
bits take 1/32 of the memory of float32 features. A bit is 1 where the neuron is on, that is, where ``t <= 0`` is false:
NaN is on, 0 and -0 are off. Bit ``k % 8`` of byte ``k // 8`` is element k in memory order; unused bits of the last byte
are 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from dfad_fast import backends
from dfad_fast.ops._checks import check_floating
from dfad_fast.ops._subclasses import beside

_NAME = "pack_signs"
_op = backends.op(_NAME)


def dense_strides(x: torch.Tensor) -> tuple[int, ...]:
    """The strides of ``torch.empty_like(x)``: x's own if it is dense, otherwise the nearest dense ones."""
    if backends.inside_transform():
        # vmap shows strides that leave room for its batch dimension.
        return torch.empty(x.shape, device="meta").stride()
    return torch.empty_like(x, device="meta").stride()


def _memory_order(strides: tuple[int, ...]) -> list[int]:
    """Dimensions from the largest stride to the smallest; torch.compile cannot sort by a dynamic key."""
    order: list[int] = []
    for d, stride in enumerate(strides):
        place = len(order)
        while place > 0 and strides[order[place - 1]] < stride:
            place -= 1
        order.insert(place, d)
    return order


def _differ(a: tuple[int, ...], b: tuple[int, ...], shape: torch.Size) -> bool:
    """Whether the strides order the elements differently; dimensions of size 1 do not count."""
    return any(x != y for x, y, size in zip(a, b, shape, strict=True) if size > 1)


def _places(x: torch.Tensor) -> torch.Tensor:
    """The value of each bit of a byte: 1, 2, 4, ..., 128."""
    return beside(2 ** torch.arange(8, dtype=torch.uint8, device=x.device), x)


def pack(on: torch.Tensor) -> torch.Tensor:
    """Bits of a boolean tensor in the memory order of ``torch.empty_like(on)``, in plain PyTorch.

    Args:
        on: bool, any shape and strides.

    Returns:
        uint8 ``[ceil(elements / 8)]`` on the same device.
    """
    flat = on.permute(_memory_order(dense_strides(on))).reshape(-1).to(torch.uint8)
    padded = torch.nn.functional.pad(flat, (0, -flat.numel() % 8)).reshape(-1, 8)
    return (padded * _places(on)).sum(1, dtype=torch.uint8)


def unpack(bits: torch.Tensor, shape: torch.Size, strides: tuple[int, ...]) -> torch.Tensor:
    """The inverse of :func:`pack`, in plain PyTorch.

    Args:
        bits: uint8 ``[ceil(elements / 8)]``.
        shape: shape of the result.
        strides: dense strides whose memory order the bits follow.

    Returns:
        A bool tensor of this shape on the same device.
    """
    flat = (bits.unsqueeze(1).bitwise_and(_places(bits)) != 0).reshape(-1)[: shape.numel()]
    order = _memory_order(strides)
    inverse = [order.index(d) for d in range(len(order))]
    return flat.reshape([shape[d] for d in order]).permute(inverse)


def reference(teacher: torch.Tensor) -> torch.Tensor:
    """Bits of the teacher's signs in plain PyTorch, uint8 ``[ceil(elements / 8)]``."""
    check_floating(_NAME, "teacher", teacher)
    return pack(~(teacher.detach() <= 0))


@dataclass(frozen=True, eq=False)
class PackedSigns:
    """Signs of a tensor of ``shape``, one bit per element; made by :func:`pack_signs`.

    Attributes:
        bits: uint8 ``[ceil(elements / 8)]``, on the tensor's device.
        shape: the tensor's shape.
        strides: the dense strides whose memory order the bits follow; they equal those of ``torch.empty_like``.
    """

    bits: torch.Tensor
    shape: torch.Size
    strides: tuple[int, ...]

    @property
    def device(self) -> torch.device:
        """Where the bits are."""
        return self.bits.device

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return self.bits.nbytes

    def to(self, device: torch.device | str) -> PackedSigns:
        """The same signs on another device."""
        return PackedSigns(self.bits.to(device), self.shape, self.strides)

    def unpack(self) -> torch.Tensor:
        """A bool tensor of ``shape`` and ``strides``: True where the neuron is on."""
        return unpack(self.bits, self.shape, self.strides)

    def in_order_of(self, x: torch.Tensor) -> torch.Tensor:
        """The bits in the memory order of x, a tensor of the same shape; repacked if the order differs."""
        strides = dense_strides(x)
        if self.strides == strides or not _differ(self.strides, strides, self.shape):
            return self.bits
        return pack(
            torch.empty_strided(x.shape, strides, dtype=torch.bool, device=self.device).copy_(self.unpack())
        )

    def __repr__(self) -> str:
        return f"PackedSigns(shape={tuple(self.shape)}, strides={self.strides}, device='{self.device}')"


def pack_signs(teacher: torch.Tensor) -> PackedSigns:
    """Reduce a teacher's pre-activations to what :func:`boundary_hinge_loss` reads: one bit per element.

    Use it if the teacher's features would otherwise be held until the student's are computed. Source: Heo et al. 2019,
    arXiv 1811.03233, whose loss depends on the teacher only through these signs.

    Args:
        teacher: any shape and strides; float64, float32, float16 or bfloat16. Gets no gradient.

    Returns:
        The signs, on the same device: 1/32 of the memory of float32 features.

    Raises:
        TypeError: the teacher is not a floating-point tensor.
    """
    if not isinstance(teacher, torch.Tensor):
        raise TypeError(f"{_NAME}: teacher must be a tensor, got {type(teacher).__name__}")
    bits = _op(teacher) if backends.native(teacher) else reference(teacher)
    return PackedSigns(bits, teacher.shape, dense_strides(teacher))


@backends.register_fake(_NAME)
def _fake(teacher: torch.Tensor) -> torch.Tensor:
    check_floating(_NAME, "teacher", teacher)
    return torch.empty((teacher.numel() + 7) // 8, dtype=torch.uint8, device=teacher.device)
