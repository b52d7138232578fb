"""Builds the C++ extension where torch and a C++ compiler are at hand; installs in pure Python, saying so,
elsewhere.

Environment:
    DFAD_FAST_BUILD=0               do not build the extension
    DFAD_FAST_REQUIRE_EXTENSION=1   make a build that cannot happen, or fails, an error
    MAX_JOBS                        compile jobs; by default one per core, as far as memory goes
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

REQUIRED = os.environ.get("DFAD_FAST_REQUIRE_EXTENSION") == "1"
MIN_TORCH = "2.11"
GIB_PER_JOB = 2
FLAGS = [
    "-O3",
    # Python may have been built with -g; debug information triples the compile time and weighs 30 MB.
    "-g0",
    # Without OpenMP, at::parallel_for compiles to a loop on one thread.
    "-fopenmp",
    # The tiers must round alike: no fused multiply-add unless the code says so.
    "-ffp-contract=off",
    # Neither changes a result; both let the compiler turn branches into vector selects.
    "-fno-trapping-math",
    "-fno-math-errno",
    "-fvisibility=hidden",
    "-Wno-psabi",
]


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
        f"dfad_fast: the C++ extension was not built, the pure-Python reference will serve: {reason}",
        file=sys.stderr,
    )


def give_up(reason: str) -> None:
    if REQUIRED:
        raise SystemExit(
            f"dfad_fast: DFAD_FAST_REQUIRE_EXTENSION=1, but the C++ extension was not built: {reason}"
        )
    notice(reason)


def write_build_info(folder: Path, **info: Any) -> None:
    """Beside the package: a load failure can then say what the extension was built for, or why it was not."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "_build_info.json").write_text(json.dumps(info, indent=2) + "\n")


def pure_python(**info: Any) -> dict[str, Any]:
    """What setup() needs to leave a note of why there is no extension, where the package is really installed."""

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


def extension_arguments() -> dict[str, Any]:
    """What setup() needs to build the extension; empty where there is nothing to build with."""
    if os.environ.get("DFAD_FAST_BUILD") == "0":
        notice("DFAD_FAST_BUILD=0")
        return pure_python(skipped=True, reason="DFAD_FAST_BUILD=0")
    if reason := cannot_build():
        give_up(reason)
        return pure_python(reason=reason)

    import torch
    from torch.utils.cpp_extension import BuildExtension, CppExtension

    class Build(BuildExtension):
        def build_extensions(self) -> None:
            self.package_folder = Path(self.get_ext_fullpath("dfad_fast._C")).parent
            try:
                super().build_extensions()
            except Exception as error:
                # The compiler's own lines are above; give_up raises where the extension is required.
                reason = f"the build failed: {(str(error).strip() or repr(error)).splitlines()[-1]}"
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
    sources = sorted(str(path) for path in Path("csrc").rglob("*.cpp"))
    headers = sorted(str(path) for pattern in ("*.h", "*.inl") for path in Path("csrc").rglob(pattern))
    extension = CppExtension(
        "dfad_fast._C",
        sources,
        depends=headers,
        extra_compile_args={"cxx": FLAGS},
        extra_link_args=["-fopenmp"],
    )
    return {"ext_modules": [extension], "cmdclass": {"build_ext": Build}}


setup(
    packages=find_packages(include=["dfad_fast*"]),
    package_data={"dfad_fast": ["_build_info.json", "py.typed"]},
    **extension_arguments(),
)
