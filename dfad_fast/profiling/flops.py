"""The multiply-adds of a network as published, and the machine's peak rate for them."""

from __future__ import annotations

import copy
import time
import warnings
from typing import NamedTuple

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from dfad_fast.profiling.timeline import clock_of

_SIDE = 2048
_SLOW_SIDE = 256
_TRIES = 5
_PATIENCE = 1.0


class MultiplyAdds(NamedTuple):
    """Multiply-adds of convolutions and matrix products, for one image."""

    forward: int
    backward: int


def multiply_adds(
    network: nn.Module, shape: tuple[int, ...], to_weights: bool, to_inputs: bool
) -> MultiplyAdds | None:
    """Multiply-adds of plain PyTorch for one input of ``shape``, and for the gradients of the weights or the input.

    They are counted on a copy without data (torch's meta device). So a faster form of the same network, with fused ops
    or folded layers, counts like the published one. None if the network cannot be copied or run that way.
    """
    counter = FlopCounterMode(display=False)
    try:
        twin = copy.deepcopy(network).to("meta").eval().requires_grad_(to_weights)
        dtype = next((p.dtype for p in twin.parameters()), torch.float32)
        inputs = torch.empty(2, *shape, device="meta", dtype=dtype, requires_grad=to_inputs)
        with counter, torch.random.fork_rng([]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            answer = twin(inputs)
            forward = counter.get_total_flops()
            if answer.requires_grad:
                answer.sum().backward()
    except Exception:  # a user's forward may raise anything for tensors without data
        return None
    # The counter counts two operations per multiply-add, for two images.
    return MultiplyAdds(forward // 4, (counter.get_total_flops() - forward) // 4)


class Ceiling(NamedTuple):
    """The best of several rates of torch.mm on two square matrices."""

    dtype: str
    side: int
    flops_per_second: float


def measure_ceilings(device: torch.device) -> list[Ceiling]:
    """Ceilings for float32, bfloat16 and float16. Very slow dtypes are measured on smaller matrices."""
    return [_ceiling(device, dtype) for dtype in (torch.float32, torch.bfloat16, torch.float16)]


def _ceiling(device: torch.device, dtype: torch.dtype) -> Ceiling:
    side = min(_SIDE, _SLOW_SIDE)
    best = _product_seconds(device, dtype, side)
    if best * (_SIDE / side) ** 3 < _PATIENCE:
        side = _SIDE
        best = _product_seconds(device, dtype, side)
    return Ceiling(str(dtype).removeprefix("torch."), side, 2.0 * side**3 / best)


def _product_seconds(device: torch.device, dtype: torch.dtype, side: int) -> float:
    clock = clock_of(device)
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    out = torch.mm(a, b)
    best = float("inf")
    deadline = time.monotonic() + _PATIENCE
    for _ in range(_TRIES):
        first = clock.read()
        torch.mm(a, b, out=out)
        second = clock.read()
        clock.wait()
        best = min(best, clock.between(first, second))
        if time.monotonic() > deadline:
            break
    return best
