"""Builds the emulator with g++, and the PTX of the CUDA kernels with nvcc; each only where its sources have changed."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

from tests.cuda.build_shim import COMPILER, CSRC, LAUNCHED, ROOT, TORCH

EMULATOR = Path(__file__).with_name("emulator")
CACHE = ROOT / "build" / "ptx"
ARCHITECTURE = "sm_80"
# In two words, as nvcc wants it.
INCLUDES = tuple(
    word
    for folder in ("", "torch/csrc/api/include")
    for word in ("-isystem", str(TORCH / "include" / folder))
)
# As in setup.py and torch's own builds.
NVCC_FLAGS = (
    *("-std=c++20", "-O3", "--fmad=false", "--expt-relaxed-constexpr"),
    *("-D__CUDA_NO_HALF_OPERATORS__", "-D__CUDA_NO_HALF_CONVERSIONS__"),
    *("-D__CUDA_NO_BFLOAT16_CONVERSIONS__", "-D__CUDA_NO_HALF2_OPERATORS__"),
)
EMULATOR_FLAGS = (
    *("-std=c++20", "-O2", "-fPIC", "-shared", "-fvisibility=hidden", "-ffp-contract=off"),
    *("-fno-strict-aliasing", "-Wall", "-Wextra", "-Werror"),
)


def missing() -> str:
    """Why there can be no PTX of the CUDA kernels here, or an empty string."""
    absent = [tool for tool in ("nvcc", COMPILER, "nm", "c++filt") if shutil.which(tool) is None]
    return f"{', '.join(absent)} not found: the PTX of the CUDA kernels cannot be had" if absent else ""


def _digest(flags: Iterable[str], sources: Iterable[Path]) -> str:
    digest = hashlib.sha256(repr(tuple(flags)).encode())
    for path in sorted(sources):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _made(target: Path, command: Callable[[Path], list[str]]) -> Path:
    """The file that the command makes; under another name first, so that a build that is cut off leaves none."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(target.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several runs of the tests may want it at once
        if not target.is_file():
            partial = target.with_name(f"partial-{target.name}")
            done = subprocess.run(command(partial), capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise RuntimeError(f"{' '.join(command(partial))}\n{done.stderr}")
            partial.rename(target)
    return target


def build_emulator() -> Path:
    """The emulator's library.

    Raises:
        RuntimeError: it does not compile; the text is the compiler's.
    """
    launcher = CSRC.parent / "tests" / "cuda" / "shim" / "launcher.h"
    target = CACHE / f"emulator-{_digest(EMULATOR_FLAGS, [*EMULATOR.iterdir(), launcher])}.so"
    sources = sorted(map(str, EMULATOR.glob("*.cpp")))
    libraries = (f"-L{TORCH / 'lib'}", "-lc10")
    return _made(
        target,
        lambda partial: [
            COMPILER,
            *LAUNCHED,
            *EMULATOR_FLAGS,
            *INCLUDES,
            *sources,
            *libraries,
            "-o",
            str(partial),
        ],
    )


def cuda_ptx(kernel: str, architecture: str = ARCHITECTURE) -> Path:
    """What nvcc makes of ``csrc/cuda/KERNEL.cu``; half a minute where the sources have changed.

    Raises:
        RuntimeError: it does not compile; the text is the compiler's.
    """
    headers = [
        *CSRC.glob("*.h"),
        *CSRC.glob("arithmetic/*"),
        *CSRC.glob("cuda/*.h"),
        *CSRC.glob("cuda/*.cuh"),
    ]
    source = CSRC / "cuda" / f"{kernel}.cu"
    target = CACHE / architecture / f"{kernel}-{_digest(NVCC_FLAGS, [source, *headers])}.ptx"
    command = ["nvcc", "-ptx", f"-arch={architecture}", *NVCC_FLAGS, *INCLUDES, str(source), "-o"]
    return _made(target, lambda partial: [*command, str(partial)])
