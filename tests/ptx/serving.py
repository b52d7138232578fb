"""Puts PTX in the place of the C++ kernels, for ``--backend=cuda-ptx`` and ``--backend=triton-ptx``."""

from __future__ import annotations

import pytest
import torch

from tests.ptx import build


def serve(backend: str) -> torch.library.Library | None:
    """Serve the ops on the CPU; Triton does as long as the library lives."""
    if backend == "cuda-ptx":
        if reason := build.missing():
            pytest.skip(reason)
        from tests.ptx import cuda

        cuda.serve()
        return None
    pytest.importorskip("triton", reason="triton is not installed: its kernels cannot be compiled")
    from tests.ptx import triton

    return triton.serve()
