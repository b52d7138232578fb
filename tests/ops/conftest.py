"""The tests of ops run on one backend per session; without it they would compare the reference with itself, so they
fail."""

import os

import pytest
import torch

from dfad_fast import backends
from tests import under_test


@pytest.fixture(scope="session", autouse=True)
def _backend(request):
    name, device = under_test.backend, request.config.getoption("--device")
    served_by_triton = None
    if name != "reference" and backends.extension is None:
        if os.environ.get("DFAD_FAST_BUILD") == "0":
            pytest.skip("DFAD_FAST_BUILD=0: no extension was built")
        pytest.fail(f"the C++ extension is missing: {backends.missing_reason}")
    if name == "cuda-shim":
        from tests.cuda.build_shim import load_shim

        load_shim()
    if name in under_test.PTX:
        from tests.ptx.serving import serve

        served_by_triton = serve(name)
    backends.use_backend(name if name in ("triton", "reference") else "auto")
    served = backends.choice(device)[0]
    expected = "cpp" if name in ("cuda-shim", *under_test.PTX) else name
    if served != expected:
        pytest.fail(f"the tests are about {expected}, but {device} tensors are served by {served}")
    if device == "cuda":
        torch.set_default_device("cuda")
    return served_by_triton  # as long as it lives


@pytest.fixture(scope="session")
def device(request):
    """The device that tensors are made on; no test needs to name it."""
    return request.config.getoption("--device")


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _poisoned_empties():
    """torch.empty gives NaN (255 for bytes), called from C++ too: an element that a kernel forgets to write shows."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(autouse=True)
def _sound_accesses():
    """On PTX a test also fails for what the emulator finds: bounds, alignment, races, barriers, unwritten values."""
    yield
    if under_test.backend in under_test.PTX:
        from tests.ptx.emulator import take_findings

        found = take_findings()
        assert not found, "\n".join(map(str, found))


@pytest.fixture
def threads():
    """Sets the number of threads; restored afterwards."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture
def set_tier():
    """Sets the instruction-set tier; restored afterwards."""
    before = backends.extension.tier()
    yield backends.extension.set_tier
    backends.extension.set_tier(before)
