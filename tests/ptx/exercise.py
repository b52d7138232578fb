"""A few calls of each op on PTX, compared with the references in float64: ``python -m tests.ptx.exercise cuda|triton
KERNEL...``. A process of its own, as the kernels stay in the place of the C++ ones.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch

from dfad_fast.ops import batch_norm, boundary_hinge, channels, interpolated, kl, l1, mixing
from tests.cuda.exercise import compare
from tests.ptx import emulator

ops = torch.ops.dfad_fast
SIZES = (13, 9001)  # a part of a vector; several chunks, the last one with such a part
FOUND_FIRST = (1025, 3)  # so many rows that a launch of its own inverts their permutation


def _l1() -> None:
    for size in SIZES:
        for reduction in ("mean", "sum", "none"):  # two that count blocks, one after the other
            s, t = torch.randn(size), torch.randn(size)
            compare(
                lambda s, t, r=reduction: ops.l1_discrepancy(s, t, r)[0],
                lambda s, t, r=reduction: l1.reference(s, t, r),
                *(s, t),
            )


def _boundary_hinge() -> None:
    for size in SIZES:
        s, t = torch.randn(size), torch.randn(size)
        compare(
            lambda s, t=t: ops.boundary_hinge_loss([s], [t], [1.0], 1.0, "mean", True)[0],
            lambda s, t=t: boundary_hinge.reference([s], [t], [1.0], 1.0, "mean")[0],
            s,
        )


def _kl() -> None:
    for shape in ((70, 7), (19, 70), (11, 300), (3, 1100), (5, 7, 3), (5, 20, 3)):
        compare(
            lambda s, t: ops.kl_discrepancy(s, t, 2.0, "mean")[0],
            lambda s, t: kl.reference(s, t, 2.0, "mean"),
            *(torch.randn(shape), torch.randn(shape)),
        )


def _mixing() -> None:
    for shape in ((300, 10), FOUND_FIRST):
        lam, perm = torch.rand(shape[0]), torch.arange(shape[0]).roll(1)
        compare(
            lambda x, lam=lam, perm=perm: ops.mixup([x], lam, perm)[0],
            lambda x, lam=lam, perm=perm: mixing.mix(x, lam.double(), 1 - lam.double(), perm),
            torch.randn(shape),
        )


def _interpolated() -> None:
    for shape in ((9, 1000), FOUND_FIRST):
        lam, perm = torch.rand(shape[0]), torch.arange(shape[0]).roll(1)
        compare(
            lambda s, t, lam=lam, perm=perm: ops.interpolated_l1(s, t, lam, perm, "mean"),
            lambda s, t, lam=lam, perm=perm: interpolated.reference(s, t, lam.double(), perm, "mean"),
            *(torch.randn(shape), torch.randn(shape)),
        )


def _transpose() -> None:
    """Contiguous beside channels_last: parts of squares, and several, in words of each size."""
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        s, t = torch.randn(2, 40, 5, 9).to(dtype), torch.randn(2, 40, 5, 9).to(dtype)
        for one, other in ((s, t), (t, s)):
            compare(
                lambda s, t: ops.l1_discrepancy(s, t, "mean")[0],
                lambda s, t: l1.reference(s, t, "mean"),
                *(one, other.to(memory_format=torch.channels_last)),
            )


def _channel_statistics() -> None:
    for x in (torch.randn(6, 3, 20, 20), torch.randn(700, 40)):
        compare(lambda x: ops.channel_statistics([x]), lambda x: channels.reference([x]), x)
    odd = torch.randn(9, 3), torch.randn(70, 8), torch.randn(70, 2)  # later channels begin off a vector
    compare(lambda *x: ops.channel_statistics(x), lambda *x: channels.reference(x), *odd)


def _batch_norm_act() -> None:
    for x in (torch.randn(6, 3, 20, 20), torch.randn(300, 40)):
        compare(
            lambda x: ops.batch_norm_act(x, None, None, None, None, False, 0.0, 1e-5)[0],
            lambda x: batch_norm.reference(x, None, None, None, None, False, 0.0, 1e-5)[0],
            x,
            ulps=64,  # sums whose terms cancel
        )


CALLS: dict[str, Callable[[], None]] = {
    "batch_norm_act": _batch_norm_act,
    "boundary_hinge": _boundary_hinge,
    "channel_statistics": _channel_statistics,
    "interpolated": _interpolated,
    "kl": _kl,
    "l1": _l1,
    "mixing": _mixing,
    "transpose": _transpose,
}


# Whose kernels the calls launch beside their own: gradients that come in another memory order are transposed.
BESIDE = {"batch_norm_act": "transpose", "mixing": "transpose", "transpose": "l1"}


def needed(kernel: str) -> tuple[str, ...]:
    """Whose kernels the calls launch."""
    return (kernel, BESIDE[kernel]) if kernel in BESIDE else (kernel,)


def exercise(kernel: str) -> None:
    """Raises AssertionError where values differ, or the emulator has found something."""
    torch.manual_seed(0)
    CALLS[kernel]()
    found = emulator.take_findings()
    assert not found, "\n".join(map(str, found))


def main(compiler: str, *kernels: str) -> None:
    emulator.know_tensors()
    if compiler == "cuda":
        from tests.ptx import cuda

        cuda.serve(name for kernel in kernels for name in needed(kernel))
        served = None
    else:
        from tests.ptx import triton

        served = triton.serve()
    for kernel in kernels:
        exercise(kernel)
    del served
    assert emulator.library().ptx_instructions() > 0


if __name__ == "__main__":
    main(*sys.argv[1:])
    print("the PTX agrees with the references")
