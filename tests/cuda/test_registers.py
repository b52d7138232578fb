"""Names of kernels in a compiler's log."""

import shutil

import pytest

from tests.cuda.registers import kernels

NAME = "_ZN4dfad4cuda47_GLOBAL__N__{digest}_9_mixing_cu_d67fe09f_137203mixIfEEvbb"
LOG = f"""
ptxas info    : Compiling entry function '{NAME}' for 'sm_90'
    0 bytes stack frame, 4 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 56 registers, used 0 barriers, 64 bytes smem
"""


@pytest.mark.skipif(shutil.which("c++filt") is None, reason="needs c++filt")
@pytest.mark.parametrize("digest", ["07585454", "a7585454"])
def test_a_kernel_is_named_by_its_file_whatever_the_digest(digest):
    (kernel,) = kernels(LOG.format(digest=digest))
    assert kernel == ("mixing.cu: mix<float>", "sm_90", 56, 0, 4, 64)
