"""What the compiler makes of every kernel, for GPUs that are not here."""

import pytest
import torch

# No kernel comes near where registers limit the threads of a GPU to less than half.
REGISTERS = 128


@pytest.mark.parametrize("target", ["sm_80", "sm_90", "sm_100", "gfx942"])
def test_no_spills_and_loads_of_16_bytes(aot, target):
    from benchmarks.aot.cases import CASES, DTYPES

    for case in CASES:
        for dtype in DTYPES:
            row = aot.figures(case, dtype, target)
            assert row["spills"] == 0, row
            assert row["registers"] <= REGISTERS, row
            if case.narrow is not None:
                assert set(row["loads"]) - case.narrow(DTYPES[dtype].itemsize) == {16}, row


def test_every_kernel_has_a_case(aot):
    from triton.runtime.jit import JITFunction

    from benchmarks.aot.cases import CASES
    from dfad_fast.kernels import (
        _partners,
        _reduce,
        batch_norm_act,
        boundary_hinge,
        channel_statistics,
        interpolated,
        kl,
        l1,
        mixing,
        pack_signs,
    )

    modules = (
        _partners,
        _reduce,
        batch_norm_act,
        boundary_hinge,
        channel_statistics,
        interpolated,
        kl,
        l1,
        mixing,
        pack_signs,
    )
    kernels = {
        f"{module.__name__.rpartition('.')[2]}.{name}"
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, JITFunction) and name.endswith("_kernel")
    }
    assert kernels == {case.kernel for case in CASES}


def test_a_launch_is_specialized_as_on_a_gpu(aot):
    """Tensors that are not aligned lose the wide loads: the figures are not of some other kernel."""
    from benchmarks.aot.cases import Case
    from dfad_fast.kernels import l1

    x = torch.empty(4096 + 1)[1:]
    case = Case("l1._loss_kernel", "", lambda dtype: l1.loss(x, x, "mean", torch.empty(())))
    assert set(aot.figures(case, "float32", "sm_90")["loads"]) == {4}


def test_sizes_past_32_bits(aot):
    """Meta tensors stand for what fits no memory here: counts, offsets and strides are int64, and still load wide."""
    from dfad_fast.kernels import batch_norm_act, boundary_hinge, interpolated, kl, l1, mixing

    x = torch.empty(8, 2**30 + 16, device="meta", dtype=torch.bfloat16)
    apart = torch.empty(2**17, 3, 2**16, device="meta").transpose(1, 2)
    scalar, lam, perm = torch.empty(()), torch.empty(8), torch.arange(8)
    bits = torch.empty(x.numel() // 8, dtype=torch.uint8, device="meta")
    with aot.caught() as launches:
        boundary_hinge.loss([x], [x], [1.0], 1.0, "mean", x.new_empty(()), None, [bits])
        boundary_hinge.gradient(scalar, [x], [bits], [1.0], 1.0, "mean", [x])
        planes = torch.empty(2, x.numel() // 8, dtype=torch.uint8, device="meta")
        l1.loss(x, x, "mean", x.new_empty(()), planes)
        l1.gradient(apart, planes, "none", torch.empty_like(x), torch.empty_like(apart))
        kl.loss(x, x, 1.0, "mean", x.new_empty(()), torch.empty(5, 8))
        mixing.mix([x], lam, perm, [x])
        interpolated.gradient(scalar, x, x, lam, perm, "mean", x, x)
        for layout in (torch.contiguous_format, torch.channels_last):
            maps = torch.empty(2**17, 32, 32, 32, device="meta", memory_format=layout)
            statistics, weight = torch.empty(2, 32), torch.empty(32)
            batch_norm_act.forward(maps, None, weight, weight, False, 0.0, 1e-5, maps, statistics)
            known = (None, weight, weight, statistics, False, 0.0, 1e-5)
            batch_norm_act.gradient(maps, maps, *known, maps, maps, weight, weight)
    assert len(launches) == 23
    target = aot.GPUTarget(*aot.TARGETS["sm_90"])
    for launch in launches:
        source, options = aot.specialize(target, *launch)
        compiled = aot.triton.compile(source, target=target, options=options.__dict__)
        figures = aot.nvidia_figures(compiled)
        assert figures["spills"] == 0, (source.name, figures)
        narrow = ("_finish_kernel", "_statistics_kernel", "_inverse_kernel")
        wide = source.name not in narrow and not any(a is apart for a in launch[1])
        assert not wide or 16 in figures["loads"], (source.name, figures)
