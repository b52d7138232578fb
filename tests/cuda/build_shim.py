"""Compiles the CUDA kernels for the CPU and puts them in the place of the C++ ones.

The sources are those that nvcc compiles; ``shim/`` stands in for the few CUDA headers that they use and runs each
thread as a fiber. What differs from a GPU: the compiler, the order of threads, and the speed.
"""

from __future__ import annotations

import ctypes
import fcntl
import functools
import hashlib
import os
import shlex
import subprocess
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
CSRC = ROOT / "csrc"
SHIM = Path(__file__).with_name("shim")
CACHE = ROOT / "build" / "cuda-shim"
COMPILER, *LAUNCHED = shlex.split(os.environ.get("CXX", "g++"))
TORCH = Path(torch.__file__).parent
SANITIZE = (
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=undefined",
    "-fno-omit-frame-pointer",
    "-g1",
)
FLAGS = (
    *("-std=c++20", "-O1", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off"),
    "-fno-strict-aliasing",  # nor does nvcc assume it, when a vector is moved as another type
    *("-Wall", "-Werror", "-Wno-unknown-pragmas", "-Wno-psabi"),
    f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}",
    *(f"-isystem{TORCH / 'include' / folder}" for folder in ("", "torch/csrc/api/include")),
)
# What comes before every source; parsed once, which takes most of the time of a kernel.
PREFIX = """#include "cuda_runtime.h"
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>
"""


def _sources() -> list[Path]:
    kernels = [path for path in sorted(CSRC.glob("cuda/*.cu")) if path.name != "build.cu"]
    return [
        *kernels,
        CSRC / "cuda" / "counters.cpp",
        CSRC / "cuda" / "operands.cpp",
        CSRC / "checks.cpp",
        CSRC / "layout.cpp",
        SHIM / "fibers.cpp",
    ]


def _digest(flags: Sequence[str]) -> str:
    digest = hashlib.sha256(repr((COMPILER, LAUNCHED, FLAGS, PREFIX, flags, torch.__version__)).encode())
    folders = (CSRC / "cuda", CSRC / "arithmetic", SHIM)
    files = {*_sources(), *CSRC.glob("*.h"), *(path for folder in folders for path in folder.rglob("*.*"))}
    for path in sorted(files):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}\n{done.stderr}")


def _compile(source: Path, target: Path, prefix: Path, flags: Sequence[str]) -> None:
    _run(
        *(COMPILER, *LAUNCHED, *FLAGS, f"-I{SHIM}", *flags),
        *("-include", prefix, "-x", "c++", "-c", source, "-o", target),
    )


def _compile_prefix(prefix: Path, flags: Sequence[str]) -> None:
    prefix.write_text(PREFIX)
    compiled = prefix.with_name(f"{prefix.name}.gch")
    _run(COMPILER, *LAUNCHED, *FLAGS, f"-I{SHIM}", *flags, "-x", "c++-header", prefix, "-o", compiled)


def _link(objects: Iterable[Path], library: Path, flags: Sequence[str]) -> None:
    # Under another name first: a build that is cut off must not look finished.
    partial = library.with_suffix(".partial")
    libraries = (f"-L{TORCH / 'lib'}", "-lc10", "-ltorch", "-ltorch_cpu")
    _run(COMPILER, *LAUNCHED, "-shared", *flags, *objects, *libraries, "-o", partial)
    partial.rename(library)


def build_shim(flags: Sequence[str] = ()) -> Path:
    """The library of the kernels, built where the sources have changed.

    Raises:
        RuntimeError: it does not compile; the text is the compiler's.
    """
    folder = CACHE / _digest(flags)
    library = folder / "cuda_shim.so"
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several runs of the tests may want it at once
        if library.is_file():
            return library
        prefix = folder / "prefix.h"
        _compile_prefix(prefix, flags)
        objects = [folder / f"{source.name}.o" for source in _sources()]
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            list(
                pool.map(lambda source, target: _compile(source, target, prefix, flags), _sources(), objects)
            )
        _link(objects, library, flags)
    return library


def build_mutant(csrc: Path, kernel: str, folder: Path) -> Path:
    """The same library but for one kernel, which is compiled from a changed copy of the sources."""
    original = build_shim().parent
    _compile(csrc / "cuda" / kernel, folder / f"{kernel}.o", original / "prefix.h", ())
    others = [path for path in original.glob("*.o") if path.name != f"{kernel}.o"]
    library = folder / "cuda_shim.so"
    _link([*others, folder / f"{kernel}.o"], library, ())
    return library


def load_shim(library: Path | None = None) -> None:
    """From here on the ops run the CUDA kernels on CPU tensors, in this process."""
    import dfad_fast.ops  # noqa: F401  defines the ops

    torch.ops.load_library(str(library or build_shim()))


@functools.cache
def shim_library() -> ctypes.CDLL:
    """Its own functions: the number of launches so far, and what the kernels take for the current stream."""
    library = ctypes.CDLL(str(build_shim()))
    library.cuda_shim_launches.restype = ctypes.c_ulonglong
    library.cuda_shim_use_stream.argtypes = (ctypes.c_int64, ctypes.c_bool)
    return library


if __name__ == "__main__":
    build_shim()
