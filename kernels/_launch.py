"""How every kernel is launched: a flat grid on the tensor's device, and no fused multiply-add.

Without fusion a product is rounded before it is added, as in the C++ kernels. So the backends agree to the last bit
wherever the order of a sum does not matter. The kernels are memory-bound, so this costs no time.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import torch


def launch(
    kernel: Any, programs: int, on: torch.Tensor, *arguments: Any, warps: int = 8, **constants: Any
) -> None:
    """Launch ``programs`` programs on the device of the tensor ``on``."""
    if programs == 0:
        return
    with torch.cuda.device_of(on):
        kernel[(programs,)](*arguments, num_warps=warps, enable_fp_fusion=False, **constants)


def float64_bits(values: Sequence[float]) -> tuple[int, ...]:
    """Bit patterns of floats as int64, because Triton passes floats in a tuple as float32."""
    return struct.unpack(f"{len(values)}q", struct.pack(f"{len(values)}d", *values))
