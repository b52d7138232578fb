"""Builds the C++ extension if torch and a C++ compiler are available, with CUDA kernels if there are a GPU and a CUDA
toolkit. Otherwise installs in pure Python and says so.

Environment:
    DFAD_FAST_BUILD=0               do not build the extension
    DFAD_FAST_REQUIRE_EXTENSION=1   raise an error if the extension cannot be built
    FORCE_CUDA=1                    build the CUDA kernels even if no GPU is visible; an error if they cannot be built
    FORCE_CUDA=0                    never build the CUDA kernels
    TORCH_CUDA_ARCH_LIST            the GPUs to build for, such as "8.0;9.0+PTX"; implies FORCE_CUDA=1. By default the
                                    visible ones, and "8.0;9.0+PTX" if none is or with DFAD_FAST_TAG_TORCH=1
    CUDA_HOME                       the CUDA toolkit; by default that of nvcc
    MAX_JOBS                        compile jobs; by default one per core, if memory allows
    DFAD_FAST_TAG_TORCH=1           add the torch version to the package's version, such as 0.2.0+torch2.14.1, for
                                    wheels that are distributed
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

REQUIRED = os.environ.get("DFAD_FAST_REQUIRE_EXTENSION") == "1"
HANDED_ON = os.environ.get("DFAD_FAST_TAG_TORCH") == "1"
VERSION = re.findall(r'"(.+)"$', Path("dfad_fast/version.py").read_text(), re.MULTILINE)[-1]
MIN_TORCH = "2.11"
GIB_PER_JOB = 2
FLAGS = [
    "-O3",
    # Python may have been built with -g. Debug information triples the compile time and takes 30 MB.
    "-g0",
    # Without OpenMP, at::parallel_for is a single-threaded loop.
    "-fopenmp",
    # All instruction sets must round the same way: no fused multiply-add unless the code says so.
    "-ffp-contract=off",
    # Neither flag changes results; both let the compiler turn branches into vector selects.
    "-fno-trapping-math",
    "-fno-math-errno",
    "-fvisibility=hidden",
    "-Wno-psabi",
]
NVCC_FLAGS = [
    "-O3",
    # Rounds as on the CPU, so that its tests are valid here. The kernels are memory-bound, so this costs no time.
    "--fmad=false",
    "-Xcompiler=-g0,-fvisibility=hidden",
]
# Used if no GPU is visible, and for wheels that are distributed to other GPUs.
CUDA_ARCHITECTURES = "8.0;9.0+PTX"


def cannot_build() -> str:
    """Why no extension can be built here, or an empty string."""
    if os.name == "nt":
        return "the C++ kernels need GCC or Clang"
    if sys.platform == "darwin":
        return "Apple's compiler has no OpenMP, which the kernels' threads need"
    if not Path("csrc").is_dir():
        return "the sources of the kernels (csrc/) are not in this package"
    try:
        import torch
        from packaging.version import Version
    except (ImportError, OSError) as error:
        return f"{error} in the build environment (install with --no-build-isolation)"
    # .release: NVIDIA's 2.11.0a0 is a 2.11.
    if Version(torch.__version__).release < Version(MIN_TORCH).release:
        return f"torch >= {MIN_TORCH} is needed, found {torch.__version__}"
    compiler = os.environ.get("CXX", "c++").split()[0]
    if shutil.which(compiler) is None:
        return f"no C++ compiler: {compiler} is not on PATH"
    if not (Path(sysconfig.get_paths()["include"]) / "Python.h").is_file():
        return "Python.h is missing (Debian: package python3-dev)"
    return ""


def cuda_home() -> Path | None:
    """The CUDA toolkit. The nvcc on PATH may be a script that calls another one, so its dry run tells the folder."""
    candidates = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH")]
    if nvcc := shutil.which("nvcc"):
        asked = subprocess.run(
            [nvcc, "--dryrun", "-x", "cu", os.devnull], capture_output=True, text=True, check=False
        )
        top = re.search(r"^#\$ TOP=(.+)$", asked.stderr, re.MULTILINE)
        candidates.append(top[1] if top else None)
    candidates.append("/usr/local/cuda")
    for folder in filter(None, candidates):
        if (Path(folder) / "include" / "cuda_runtime.h").is_file():
            return Path(folder).resolve()
    return None


def cannot_build_cuda(home: Path | None) -> str:
    """Why no CUDA kernels can be built here, or an empty string."""
    import torch

    if torch.version.cuda is None:
        return "torch was built without CUDA"
    if home is None:
        return "no CUDA toolkit: neither CUDA_HOME nor nvcc on PATH points to one with include/cuda_runtime.h"
    try:
        text = subprocess.run(
            [home / "bin" / "nvcc", "--version"], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        return f"nvcc does not run: {error}"
    release = re.search(r"release (\d+)\.(\d+)", text)
    if release is None or release[1] != torch.version.cuda.partition(".")[0]:
        found = f"CUDA {release[1]}.{release[2]}" if release else "of an unknown version"
        return f"nvcc is {found}, but torch was built for CUDA {torch.version.cuda}: the major versions must match"
    return ""


def cuda_is_asked_for() -> bool:
    wish = os.environ.get("FORCE_CUDA", "")
    return wish == "1" or (wish != "0" and bool(os.environ.get("TORCH_CUDA_ARCH_LIST")))


def builds_cuda(asked: bool) -> bool:
    """Whether CUDA kernels are built, too. Sets the environment variables that torch's build reads."""
    import torch

    if os.environ.get("FORCE_CUDA") == "0":
        return False
    home = cuda_home()
    reason = cannot_build_cuda(home)
    if reason and asked:
        raise SystemExit(f"dfad_fast: CUDA kernels were requested, but cannot be built: {reason}")
    if not reason and not asked and not torch.cuda.is_available():
        reason = "no GPU is visible (FORCE_CUDA=1 builds them anyway)"
    if reason:
        print(f"dfad_fast: building without CUDA kernels: {reason}", file=sys.stderr)
        return False
    os.environ["CUDA_HOME"] = str(home)
    if not os.environ.get("TORCH_CUDA_ARCH_LIST") and (HANDED_ON or not torch.cuda.is_available()):
        os.environ["TORCH_CUDA_ARCH_LIST"] = CUDA_ARCHITECTURES
    return True


def use_ninja() -> None:
    """Put the ninja package's binary on PATH, for environments that are not activated."""
    with contextlib.suppress(ImportError):
        import ninja

        os.environ["PATH"] = os.pathsep.join((ninja.BIN_DIR, os.environ.get("PATH", "")))


def use_sensible_parallelism() -> None:
    if "MAX_JOBS" in os.environ:
        return
    jobs = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        memory = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        jobs = min(jobs, max(1, memory // (GIB_PER_JOB << 30)))
    os.environ["MAX_JOBS"] = str(jobs)


def notice(reason: str) -> None:
    print(
        f"dfad_fast: the C++ extension was not built, so the pure-Python reference is used: {reason}",
        file=sys.stderr,
    )


def give_up(reason: str) -> None:
    if REQUIRED:
        raise SystemExit(
            f"dfad_fast: DFAD_FAST_REQUIRE_EXTENSION=1, but the C++ extension was not built: {reason}"
        )
    notice(reason)


def write_build_info(folder: Path, **info: Any) -> None:
    """Writes a file next to the package, from which a load error can say what the extension was built for, or why it
    was not built."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "_build_info.json").write_text(json.dumps(info, indent=2) + "\n")


def pure_python(**info: Any) -> dict[str, Any]:
    """Arguments for setup() that record in the installed package why there is no extension."""

    class BuildPython(build_py):
        def run(self) -> None:
            super().run()
            editable = getattr(self, "editable_mode", False)
            write_build_info(
                Path("dfad_fast") if editable else Path(self.build_lib, "dfad_fast"), built=False, **info
            )

    return {"cmdclass": {"build_py": BuildPython}}


def compiler_version() -> str:
    command = [*os.environ.get("CXX", "c++").split(), "--version"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.partition("\n")[0]


def torch_tag(cuda: bool) -> str:
    """The local version, such as "+torch2.14.1", or "+torch2.14.1.cu130" with CUDA kernels."""
    import torch
    from packaging.version import Version

    toolkit = f".cu{torch.version.cuda.replace('.', '')}" if cuda else ""
    return f"+torch{Version(torch.__version__).public}{toolkit}"


def extension_arguments() -> dict[str, Any]:
    """Arguments for setup() that build the extension; empty if it cannot be built."""
    if os.environ.get("DFAD_FAST_BUILD") == "0":
        notice("DFAD_FAST_BUILD=0")
        return pure_python(skipped=True, reason="DFAD_FAST_BUILD=0")
    if reason := cannot_build():
        give_up(reason)
        return pure_python(reason=reason)

    import torch

    cuda_asked = cuda_is_asked_for()
    cuda = builds_cuda(cuda_asked)  # before the next import, which looks for the toolkit
    from torch.utils.cpp_extension import BuildExtension, CppExtension, include_paths, library_paths

    class Build(BuildExtension):
        def build_extensions(self) -> None:
            self.package_folder = Path(self.get_ext_fullpath("dfad_fast._C")).parent
            try:
                super().build_extensions()
            except Exception as error:
                # The compiler has printed its errors already; give_up raises if the extension is required.
                reason = f"the build failed: {(str(error).strip() or repr(error)).splitlines()[-1]}"
                if cuda_asked:
                    raise SystemExit(f"dfad_fast: CUDA kernels were requested, but {reason}") from error
                if cuda:
                    reason += " (FORCE_CUDA=0 builds without CUDA kernels)"
                give_up(reason)
                write_build_info(self.package_folder, built=False, reason=reason)
                self.extensions = []
                return
            write_build_info(
                self.package_folder,
                built=True,
                torch=torch.__version__,
                python=sys.version.partition(" ")[0],
                compiler=compiler_version(),
            )

        def copy_extensions_to_source(self) -> None:
            super().copy_extensions_to_source()
            shutil.copy(self.package_folder / "_build_info.json", "dfad_fast")

    use_ninja()
    use_sensible_parallelism()
    files = sorted(path for path in Path("csrc").rglob("*.*") if cuda or path.parent.name != "cuda")
    # torch's CUDAExtension would link libraries that a minimal toolkit lacks.
    extension = CppExtension(
        "dfad_fast._C",
        [str(path) for path in files if path.suffix in (".cpp", ".cu")],
        depends=[str(path) for path in files if path.suffix not in (".cpp", ".cu")],
        include_dirs=include_paths(device_type="cuda") if cuda else [],
        library_dirs=library_paths(device_type="cuda") if cuda else [],
        libraries=["c10_cuda", "cudart"] if cuda else [],
        extra_compile_args={
            "cxx": [*FLAGS, *(["-DDFAD_WITH_CUDA", "-Wno-unknown-pragmas"] if cuda else [])],
            "nvcc": NVCC_FLAGS,
        },
        extra_link_args=["-fopenmp"],
    )
    tag = torch_tag(cuda) if HANDED_ON else ""
    return {"version": VERSION + tag, "ext_modules": [extension], "cmdclass": {"build_ext": Build}}


setup(
    packages=find_packages(include=["dfad_fast*"]),
    # An installed package contains the kernels; in a checkout dfad_fast/kernels points to them.
    package_dir={"dfad_fast.kernels": "kernels"},
    include_package_data=False,  # otherwise dfad_fast/kernels would be installed as data instead of the kernels
    package_data={
        "dfad_fast": ["_build_info.json", "py.typed"],
        "dfad_fast.reporting.report_page": ["page.html", "page.css", "page.js"],
    },
    **({"version": VERSION} | extension_arguments()),
)
