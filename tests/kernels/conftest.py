import os

import pytest

pytest.importorskip("triton")


@pytest.fixture(scope="session")
def aot():
    """benchmarks/aot/compiling.py, which must not be imported where Triton interprets."""
    if os.environ.get("TRITON_INTERPRET") == "1":
        pytest.skip("TRITON_INTERPRET=1: nothing is compiled")
    from benchmarks.aot import compiling

    return compiling
