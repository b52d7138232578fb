"""What the compiler makes of every kernel, for GPUs that are not here."""

import pytest
import torch

# No kernel comes near where registers limit the threads of a GPU to less than half.
REGISTERS = 128


@pytest.mark.parametrize("target", ["sm_80", "sm_90", "sm_100", "gfx942"])
def test_no_spills_and_loads_of_16_bytes(aot, target):
    for case in aot.CASES:
        for dtype in aot.DTYPES:
            row = aot.figures(case, dtype, target)
            assert row["spills"] == 0, row
            assert row["registers"] <= REGISTERS, row
            if case.narrow is not None:
                assert set(row["loads"]) - case.narrow(aot.DTYPES[dtype].itemsize) == {16}, row


def test_every_kernel_has_a_case(aot):
    from triton.runtime.jit import JITFunction

    from dfad_fast.kernels import _partners, _reduce, boundary_hinge, interpolated, kl, l1, mixing, pack_signs

    kernels = {
        f"{module.__name__.rpartition('.')[2]}.{name}"
        for module in (_partners, _reduce, boundary_hinge, interpolated, kl, l1, mixing, pack_signs)
        for name, value in vars(module).items()
        if isinstance(value, JITFunction) and name.endswith("_kernel")
    }
    assert kernels == {case.kernel for case in aot.CASES}


def test_a_launch_is_specialized_as_on_a_gpu(aot):
    """Tensors that are not aligned lose the wide loads: the figures are not of some other kernel."""
    x = torch.empty(4096 + 1)[1:]
    case = aot.Case("l1._loss_kernel", "", lambda dtype: aot.l1.loss(x, x, "mean", torch.empty(())))
    assert set(aot.figures(case, "float32", "sm_90")["loads"]) == {4}
