"""Without the extension the tests of ops would only compare the reference with itself, so they fail instead."""

import os

import pytest
import torch

from dfad_fast import backends


@pytest.fixture(autouse=True)
def _needs_extension():
    if backends.extension is not None:
        return
    if os.environ.get("DFAD_FAST_BUILD") == "0":
        pytest.skip("DFAD_FAST_BUILD=0: no extension was built")
    pytest.fail(f"the C++ extension is missing: {backends.missing_reason}")


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


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
