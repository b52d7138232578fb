"""The launchers in Triton's interpreter, in a process of their own, and every launch of that process compiled."""

import importlib
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest

SUITE = Path(__file__).parent / "interpreted"

if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("TRITON_INTERPRET=1: tests/kernels/interpreted runs by itself", allow_module_level=True)


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    """The process's result and the launches that it made."""
    record = tmp_path_factory.mktemp("launches") / "launches.pickle"
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", str(SUITE)],
        env={**os.environ, "TRITON_INTERPRET": "1", "DFAD_FAST_RECORD": str(record)},
        capture_output=True,
        text=True,
        check=False,
        cwd=SUITE.parents[2],
    )
    return result, pickle.loads(record.read_bytes()) if record.is_file() else []


def test_launchers_in_the_interpreter(suite):
    result, launches = suite
    assert result.returncode == 0, result.stdout + result.stderr
    assert int(re.search(r"(\d+) passed", result.stdout).group(1)) > 80
    assert len(launches) > 200


class Tensor:
    """As much of a tensor as a launch's specialization asks for."""

    def __init__(self, dtype, address):
        self.dtype = dtype
        self._address = address

    def data_ptr(self):
        return self._address


def restored(value):
    if isinstance(value, tuple) and value[:1] == ("tensor",):
        return Tensor(*value[1:])
    return tuple(restored(v) for v in value) if isinstance(value, tuple) else value


def test_what_the_interpreter_ran_is_valid_triton(suite, aot):
    """The interpreter knows neither constant arguments of value 1 nor what the compiler's front end refuses."""
    from triton._C.libtriton import ir

    target = aot.GPUTarget(*aot.TARGETS["sm_90"])
    backend = aot.make_backend(target)
    for module, name, args, kwargs in suite[1]:
        kernel = getattr(importlib.import_module(module), name)
        source, options = aot.specialize(target, kernel, restored(args), kwargs)
        context = ir.context()
        ir.load_dialects(context)
        backend.load_dialects(context)
        functions = backend.get_codegen_implementation(options)
        source.make_ir(target, options, functions, backend.get_module_map(), context)
