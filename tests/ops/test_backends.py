"""Choosing a backend, doing without the extension, and what importing costs."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import dfad_fast
from dfad_fast import backends, info
from dfad_fast.errors import UsageError
from dfad_fast.ops import l1_discrepancy

pytestmark = pytest.mark.backends("cpp")
PACKAGE = Path(dfad_fast.__file__).parent
OPS = """
import torch, dfad_fast.ops
x = torch.zeros(3, requires_grad=True)
print(dfad_fast.ops.l1_discrepancy(x, x).grad_fn.name())
"""


def python(code, path=None, **environment):
    command = [sys.executable, "-c", code] if isinstance(code, str) else [sys.executable, *code]
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("DFAD_FAST_")}
    if path:
        inherited["PYTHONPATH"] = str(path)
    return subprocess.run(
        command, env={**inherited, **environment}, capture_output=True, text=True, check=False, cwd="/"
    )


@pytest.fixture
def copy(tmp_path):
    """The package without its binary, in a folder that comes first on the path."""
    ignore = shutil.ignore_patterns("*.so", "_build_info.json", "__pycache__")
    shutil.copytree(PACKAGE, tmp_path / "dfad_fast", ignore=ignore)
    # An editable install answers for modules that a package of the same name lacks; this stands in its way.
    (tmp_path / "dfad_fast" / "_C.py").write_text("raise ModuleNotFoundError('no _C here')")
    return tmp_path


def node_name():
    return l1_discrepancy(torch.ones(2, requires_grad=True), torch.ones(2)).grad_fn.name()


def write_build_info(folder, **values):
    (folder / "dfad_fast" / "_build_info.json").write_text(json.dumps(values))


def test_use_backend_as_function_and_context():
    assert backends.choice("cpu")[0] == "cpp"
    with backends.use_backend("reference"):
        assert backends.choice("cpu") == ("reference", "forced")
        assert "L1Discrepancy" not in node_name()
        with backends.use_backend("cpp"):
            assert backends.choice("cpu") == ("cpp", "forced")
        assert backends.choice("cpu") == ("reference", "forced")
    assert "L1Discrepancy" in node_name()
    backends.use_backend("reference")
    assert backends.choice("cpu") == ("reference", "forced")
    backends.use_backend("auto")
    assert backends.choice("cpu")[0] == "cpp"


def test_a_context_that_fails_restores_the_backend():
    with pytest.raises(KeyError), backends.use_backend("reference"):
        raise KeyError
    assert backends.choice("cpu")[0] == "cpp"


def test_unknown_backend_names_the_known():
    with pytest.raises(UsageError, match=r"'refrence': did you mean 'reference'\?.*auto, cpp, reference"):
        backends.use_backend("refrence")
    assert backends.choice("cpu")[0] == "cpp"


def test_cpp_forced_for_a_device_without_kernels():
    class OnXla:
        device = torch.device("xla")
        is_cpu = False

    assert not backends.native(OnXla())
    with backends.use_backend("cpp"), pytest.raises(UsageError, match="no kernels for xla tensors"):
        backends.native(OnXla())


def test_environment_forces_the_reference():
    assert "L1Discrepancy" in python(OPS).stdout
    result = python(OPS, DFAD_FAST_BACKEND="reference")
    assert result.returncode == 0, result.stderr
    assert "L1Discrepancy" not in result.stdout


@pytest.mark.parametrize(
    ("environment", "text"),
    [
        ({"DFAD_FAST_BACKEND": "triton9"}, "unknown backend 'triton9'"),
        ({"DFAD_FAST_ISA": "mmx"}, "DFAD_FAST_ISA=mmx: unknown tier 'mmx'; this CPU supports base"),
    ],
)
def test_unknown_environment_raises(environment, text):
    result = python(OPS, **environment)
    assert result.returncode == 1
    assert f"UsageError: {text}" in result.stderr


def test_environment_forces_a_tier():
    code = "import dfad_fast.ops; from dfad_fast import backends; print(backends.extension.tier())"
    for tier in backends.extension.supported_tiers():
        assert python(code, DFAD_FAST_ISA=tier).stdout.strip() == tier


def test_a_missing_extension_is_said_once_and_the_reference_serves(copy):
    result = python(OPS, copy)
    assert result.returncode == 0, result.stderr
    assert "L1Discrepancy" not in result.stdout
    assert result.stderr.count("the C++ extension is missing") == 1
    assert "it was never built: build it with pip install --no-build-isolation -e ." in result.stderr


def test_a_forced_missing_extension_raises_and_says_what_is_missing(copy):
    write_build_info(copy, built=False, reason="no C++ compiler: c++ is not on PATH")
    result = python(OPS, copy, DFAD_FAST_BACKEND="cpp")
    assert result.returncode == 1
    assert "UsageError: backend 'cpp' was asked for" in result.stderr
    assert "no C++ compiler" in result.stderr


def test_an_explicitly_skipped_build_gives_no_warning(copy):
    write_build_info(copy, built=False, skipped=True, reason="DFAD_FAST_BUILD=0")
    result = python(OPS, copy)
    assert result.returncode == 0
    assert "missing" not in result.stderr


def test_an_extension_built_for_another_torch_is_not_loaded(copy):
    write_build_info(copy, built=True, torch="2.3.1")
    result = python(OPS, copy)
    assert result.returncode == 0, result.stderr
    assert f"built for torch 2.3.1, you have {torch.__version__}: reinstall with" in result.stderr


def test_an_extension_that_does_not_load_is_explained(copy):
    binary = Path(backends.extension.__file__).name
    (copy / "dfad_fast" / binary).write_bytes(b"not a shared object")
    write_build_info(copy, built=True, torch=torch.__version__)
    result = python(OPS, copy)
    assert result.returncode == 0, result.stderr
    assert (
        f"it does not load (built for torch {torch.__version__}, you have {torch.__version__})"
        in result.stderr
    )


def test_importing_is_light():
    code = """
import sys, torch
before = set(sys.modules)
import dfad_fast.ops, dfad_fast.nn
heavy = [m for m in ("triton", "torch._dynamo", "sympy", "torch._inductor") if m in set(sys.modules) - before]
print(heavy, torch.cuda.is_initialized())
"""
    assert python(code).stdout.strip() == "[] False"


def test_info_as_json_and_text():
    result = python(["-m", "dfad_fast.info", "--json"])
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["torch"] == torch.__version__
    assert report["extension"]["tier"] in report["extension"]["supported_tiers"]
    assert report["extension"]["built_with"]["openmp"] is True
    assert report["ops"]["mixup"]["cpu"]["backend"] == "cpp"
    text = python(["-m", "dfad_fast.info"], DFAD_FAST_BACKEND="reference").stdout
    assert "DFAD_FAST_BACKEND: reference" in text
    assert "backend: reference" in text
    assert "backend: cpp" not in text


def test_info_survives_a_wrong_environment(copy):
    result = python(["-m", "dfad_fast.info", "--json"], copy, DFAD_FAST_BACKEND="cpp")
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert "backend 'cpp' was asked for" in report["environment_error"]
    reason = report["ops"]["mixup"]["cpu"]["reason"]
    assert report["extension"] == {"loaded": False, "reason": reason}


def test_info_lists_every_public_op():
    import dfad_fast.ops

    assert set(info.OPS) == set(dfad_fast.ops.__all__) - {"PackedSigns", "WinogradWeight"}


def test_a_use_backend_object_works_each_time_it_is_entered():
    forced = backends.use_backend("reference")
    for _ in range(2):
        with forced:
            assert backends.choice("cpu")[0] == "reference"
        assert backends.choice("cpu")[0] == "cpp"
