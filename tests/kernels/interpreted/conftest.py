"""Collected only where Triton interprets its kernels; tests/kernels/test_interpreted.py starts such a process."""

import os

import pytest
import torch

collect_ignore_glob = [] if os.environ.get("TRITON_INTERPRET") == "1" else ["test_*.py"]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)
