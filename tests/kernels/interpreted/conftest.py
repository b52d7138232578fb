"""Collected only where Triton interprets its kernels; tests/kernels/test_interpreted.py starts such a process.

With DFAD_FAST_RECORD=FILE the launches are written to FILE, each as a kernel and the arguments' types and values.
"""

import os
import pickle

import pytest
import torch

INTERPRETING = os.environ.get("TRITON_INTERPRET") == "1"
collect_ignore_glob = [] if INTERPRETING else ["test_*.py"]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def described(value):
    """What a launch's specialization depends on."""
    if isinstance(value, torch.Tensor):
        return "tensor", value.dtype, value.data_ptr() % 16
    return tuple(described(v) for v in value) if isinstance(value, tuple) else value


@pytest.fixture(autouse=True, scope="session")
def _record():
    path = os.environ.get("DFAD_FAST_RECORD")
    if not path:
        yield
        return
    from triton.runtime.interpreter import InterpretedFunction

    launches, run = {}, InterpretedFunction.run

    def recording(self, *args, grid, warmup, **kwargs):
        launch = (self.fn.__module__, self.fn.__name__, described(args), kwargs)
        launches[repr(launch)] = launch
        return run(self, *args, grid=grid, warmup=warmup, **kwargs)

    InterpretedFunction.run = recording
    yield
    InterpretedFunction.run = run
    with open(path, "wb") as file:
        pickle.dump(list(launches.values()), file)
