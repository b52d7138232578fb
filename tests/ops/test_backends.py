"""Choosing a backend, doing without the extension, and what importing costs."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

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


# Reads what to run, a line each, and answers with the exit code. A module's arguments are those of the command line.
FORKING = """
import json, os, runpy, sys, traceback
import torch
assert "dfad_fast" not in sys.modules
for line in sys.stdin:
    code, path, environment, files = json.loads(line)
    child = os.fork()
    if child:
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        continue
    for descriptor, file in enumerate(files, 1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), descriptor)
    os.environ.update(environment)
    sys.path[:0] = path
    status = 0
    try:
        if isinstance(code, str):
            exec(code, {"__name__": "__main__"})
        else:
            sys.argv = code
            runpy.run_module(code[0], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        status = end.code or 0
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    os._exit(status)
"""


@pytest.fixture(scope="module")
def fresh():
    """A process that has imported torch and nothing of this package."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("DFAD_FAST_")}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, "-c", FORKING], env=inherited, text=True, **pipes)
    yield process
    process.communicate()


@pytest.fixture
def python(fresh, tmp_path_factory):
    """Runs code, or a module and its arguments, in a process that imports this package anew, from ``path`` if given."""

    def run(code, path=None, **environment):
        files = [tmp_path_factory.mktemp("printed") / name for name in ("out", "err")]
        task = (code, [str(path)] if path else [], environment, [str(file) for file in files])
        print(json.dumps(task), file=fresh.stdin, flush=True)
        code = int(fresh.stdout.readline())
        out, err = (file.read_text() for file in files)
        return SimpleNamespace(returncode=code, stdout=out, stderr=err)

    return run


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


def test_environment_forces_the_reference(python):
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
def test_unknown_environment_raises(python, environment, text):
    result = python(OPS, **environment)
    assert result.returncode == 1
    assert f"UsageError: {text}" in result.stderr


def test_environment_forces_a_tier(python):
    code = "import dfad_fast.ops; from dfad_fast import backends; print(backends.extension.tier())"
    for tier in backends.extension.supported_tiers():
        assert python(code, DFAD_FAST_ISA=tier).stdout.strip() == tier


def test_a_missing_extension_is_said_once_and_the_reference_serves(python, copy):
    result = python(OPS, copy)
    assert result.returncode == 0, result.stderr
    assert "L1Discrepancy" not in result.stdout
    assert result.stderr.count("the C++ extension is missing") == 1
    assert "it was never built: build it with pip install --no-build-isolation " in result.stderr


def test_a_forced_missing_extension_raises_and_says_what_is_missing(python, copy):
    write_build_info(copy, built=False, reason="no C++ compiler: c++ is not on PATH")
    result = python(OPS, copy, DFAD_FAST_BACKEND="cpp")
    assert result.returncode == 1
    assert "UsageError: backend 'cpp' was requested" in result.stderr
    assert "no C++ compiler" in result.stderr


def test_an_explicitly_skipped_build_gives_no_warning(python, copy):
    write_build_info(copy, built=False, skipped=True, reason="DFAD_FAST_BUILD=0")
    result = python(OPS, copy)
    assert result.returncode == 0
    assert "missing" not in result.stderr


def test_an_extension_built_for_another_torch_is_not_loaded(python, copy):
    write_build_info(copy, built=True, torch="2.3.1")
    result = python(OPS, copy)
    assert result.returncode == 0, result.stderr
    assert f"built for torch 2.3.1, you have {torch.__version__}: reinstall with" in result.stderr


def test_an_extension_that_does_not_load_is_explained(python, copy):
    binary = Path(backends.extension.__file__).name
    (copy / "dfad_fast" / binary).write_bytes(b"not a shared object")
    write_build_info(copy, built=True, torch=torch.__version__)
    result = python(OPS, copy)
    assert result.returncode == 0, result.stderr
    assert (
        f"it does not load (built for torch {torch.__version__}, you have {torch.__version__})"
        in result.stderr
    )


def test_importing_is_light(python):
    code = """
import sys, torch
before = set(sys.modules)
import dfad_fast.ops, dfad_fast.nn
heavy = [m for m in ("triton", "torch._dynamo", "sympy", "torch._inductor") if m in set(sys.modules) - before]
print(heavy, torch.cuda.is_initialized())
"""
    assert python(code).stdout.strip() == "[] False"


def test_info_as_json_and_text(python):
    result = python(["dfad_fast.info", "--json"])
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["torch"] == torch.__version__
    assert report["extension"]["tier"] in report["extension"]["supported_tiers"]
    assert report["extension"]["built_with"]["openmp"] is True
    assert report["ops"]["mixup"]["cpu"]["backend"] == "cpp"
    text = python(["dfad_fast.info"], DFAD_FAST_BACKEND="reference").stdout
    assert "DFAD_FAST_BACKEND: reference" in text
    assert "backend: reference" in text
    assert "backend: cpp" not in text


def test_info_survives_a_wrong_environment(python, copy):
    result = python(["dfad_fast.info", "--json"], copy, DFAD_FAST_BACKEND="cpp")
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert "backend 'cpp' was requested" in report["environment_error"]
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
