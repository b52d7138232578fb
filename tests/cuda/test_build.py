"""What `make cuda` built, with nvcc and no GPU: it loads, has every op, and code for each architecture."""

import json
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.cuda.registers import BUILD, LOG, kernels

ROOT = Path(__file__).resolve().parents[2]
EXTENSION = next(BUILD.glob("lib/dfad_fast/_C*.so"), None)
DEFINED = re.findall(r'm\.def\(\s*"(\w+)\(', (ROOT / "csrc" / "library.cpp").read_text())
# Convolutions on a GPU are cuDNN's.
OPS = [op for op in DEFINED if not op.startswith(("winograd_", "generator_block", "narrow_conv2d"))]

SOURCES_CHANGED = max(path.stat().st_mtime for path in (ROOT / "csrc").rglob("*.*"))
BUILT = (BUILD / ".built").stat().st_mtime if (BUILD / ".built").is_file() else 0.0

pytestmark = pytest.mark.skipif(
    EXTENSION is None or SOURCES_CHANGED > BUILT,
    reason="`make cuda`, which needs nvcc, was not run on these sources",
)

LOAD = """
import importlib.util, json, sys, torch
spec = importlib.util.spec_from_file_location("_C", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
has = torch._C._dispatch_has_kernel_for_dispatch_key
print(json.dumps({
    "info": module.build_info(),
    "missing": [op for op in sys.argv[2:] if not has(f"dfad_fast::{op}", "CUDA")],
    "registered": {key: sum(has(f"dfad_fast::{op}", key) for op in sys.argv[2:]) for key in ("CPU", "CUDA")},
}))
"""


@pytest.fixture(scope="module")
def loaded():
    done = subprocess.run(
        [sys.executable, "-c", LOAD, EXTENSION, *OPS], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def cuobjdump(*arguments: str) -> str:
    bundled = find_spec("triton")
    folders = [Path(bundled.origin).parent / "backends" / "nvidia" / "bin"] if bundled else []
    tool = shutil.which("cuobjdump") or next(
        (str(folder / "cuobjdump") for folder in folders if (folder / "cuobjdump").is_file()), None
    )
    if tool is None:
        pytest.skip("neither the CUDA toolkit nor triton has cuobjdump here")
    return subprocess.run([tool, *arguments, EXTENSION], capture_output=True, text=True, check=True).stdout


def test_every_op_has_a_cuda_kernel(loaded):
    assert len(OPS) == 15
    assert loaded["missing"] == []
    assert loaded["registered"] == {"CPU": 15, "CUDA": 15}


def test_the_build_says_what_it_was_built_with(loaded):
    assert re.fullmatch(r"\d+\.\d+", loaded["info"]["cuda"])
    assert loaded["info"]["cuda_architectures"] == ["8.0", "9.0"]


def test_it_holds_code_for_each_architecture():
    code = cuobjdump("--list-elf")
    assert {"sm_80", "sm_90"} <= set(re.findall(r"sm_\d+", code))
    assert "sm_90" in cuobjdump("--list-ptx")


def test_it_needs_no_library_that_a_bare_toolkit_lacks():
    needed = subprocess.run(["readelf", "-d", EXTENSION], capture_output=True, text=True, check=True).stdout
    libraries = re.findall(r"NEEDED.*\[(.+?)\.so", needed)
    assert "libc10_cuda" in libraries
    assert not {"libcuda", "libcusparse", "libcublas", "libtorch_cuda"} & set(libraries)


def test_no_kernel_spills_registers():
    found = kernels(LOG.read_text())
    assert {kernel.arch for kernel in found} == {"sm_80", "sm_90"}
    assert len(found) >= 2 * 40
    assert [kernel for kernel in found if kernel.spilled or kernel.stack] == []


def test_memory_is_accessed_in_128_bit_vectors():
    code = cuobjdump("-sass", "-arch", "sm_90")
    for kernel in ("l1_cu", "boundary_hinge_cu", "mixing_cu", "interpolated_cu", "batch_norm_act_cu"):
        functions = [part for part in code.split("Function : ")[1:] if kernel in part.partition("\n")[0]]
        assert any("LDG.E.128" in part for part in functions), kernel
        assert any("STG.E.128" in part for part in functions), kernel
