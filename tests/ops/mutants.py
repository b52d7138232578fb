"""Copies of the package with one defect put in, on which the tests are run."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Mutation:
    """In ``file``, ``old`` becomes ``new``; then ``tests`` (a file of tests/ops and a -k expression) must fail."""

    file: str
    old: str
    new: str
    tests: str
    only: str = ""


def copy_of_the_package(folder: Path) -> Path:
    ignore = shutil.ignore_patterns("*.so", "__pycache__", "build", ".*", "results")
    for name in ("csrc", "dfad_fast", "kernels", "tests"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def mutate(folder: Path, mutation: Mutation) -> None:
    """Raises where the text is not there any more, so that a mutation cannot silently become none."""
    file = folder / mutation.file
    text = file.read_text()
    assert text.count(mutation.old) >= 1, (
        f"{mutation.file} no longer has {mutation.old!r}: adapt the mutation"
    )
    file.write_text(text.replace(mutation.old, mutation.new))


def restore(folder: Path, mutation: Mutation) -> None:
    shutil.copy(ROOT / mutation.file, folder / mutation.file)


# Reads what to run, a line each; answers with the exit code. The current folder comes first on Python's path.
FORKING = """
import json, os, sys
import hypothesis, pytest, torch
assert not {"dfad_fast", "triton"} & set(sys.modules), "each copy imports its own, and Triton to interpret or not"
for line in sys.stdin:
    folder, log, arguments = json.loads(line)
    child = os.fork()
    if not child:
        os.chdir(folder)
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
        os.dup2(1, 2)
        code = pytest.main(arguments)
        sys.stdout.flush()
        os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Runner:
    """Runs tests of copies, each in a process of its own, forked from one that has torch imported: that would take most
    of the time of most."""

    def __init__(self) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("DFAD_FAST_")}
        environment |= {"OMP_NUM_THREADS": "1", "DFAD_FAST_ISA": "base"}
        self._process = subprocess.Popen(
            [sys.executable, "-c", FORKING],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, folder: Path, tests: list[str], only: str, backend: str) -> tuple[int, str]:
        """The exit code and what was printed. Stops at the first failure. 0: all pass; 1: a test failed; anything else:
        the tests did not run."""
        arguments = ["-x", "-q", "-p", "no:cacheprovider", f"--backend={backend}"]
        arguments += [f"tests/ops/{file}" for file in tests] + (["-k", only] if only else [])
        log = folder / "log"
        print(json.dumps([str(folder), str(log), arguments]), file=self._process.stdin, flush=True)
        return int(self._process.stdout.readline()), log.read_text()

    def close(self) -> None:
        self._process.communicate()


class Extension:
    """The C++ extension of a copy, compiled without optimization: seconds per file instead of tens.

    Only the base tier is built anew for a mutation of the kernels, so the tests run on it alone.
    """

    def __init__(self, folder: Path) -> None:
        from torch.utils.cpp_extension import include_paths, library_paths

        self.folder = folder
        self.objects = folder / "objects"
        self.objects.mkdir()
        includes = [*include_paths(), sysconfig.get_paths()["include"]]
        self.flags = [
            *("-O0", "-std=c++20", "-fPIC", "-fopenmp", "-ffp-contract=off", "-fvisibility=hidden", "-w"),
            *("-DTORCH_EXTENSION_NAME=_C", "-DTORCH_API_INCLUDE_EXTENSION_H"),
            *(flag for path in includes for flag in ("-isystem", path)),
        ]
        self.libraries = [f"-L{path}" for path in library_paths()] + [
            *("-ltorch_python", "-ltorch", "-ltorch_cpu", "-lc10", "-fopenmp"),
        ]
        # What nearly every file includes, parsed once.
        self.header = self.objects / "torch.h"
        self.header.write_text(
            "#include <torch/csrc/autograd/custom_function.h>\n#include <torch/library.h>\n"
        )
        self.run(*self.flags, "-x", "c++-header", str(self.header), "-o", f"{self.header}.gch")
        self.sources = sorted(p for p in (folder / "csrc").rglob("*.cpp") if p.parent.name != "cuda")
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(self.compile, self.sources))
        self.link()

    def run(self, *command: str) -> None:
        result = subprocess.run(
            [*shlex.split(os.environ.get("CXX", "c++")), *command],
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stderr

    def object_of(self, source: Path) -> Path:
        return self.objects / ("_".join(source.relative_to(self.folder / "csrc").parts) + ".o")

    def compile(self, source: Path) -> None:
        shared = [] if source.name.startswith("tier_") else ["-include", str(self.header)]
        self.run(*self.flags, *shared, "-c", str(source), "-o", str(self.object_of(source)))

    def link(self) -> None:
        suffix = sysconfig.get_config_var("EXT_SUFFIX")
        objects = [str(self.object_of(source)) for source in self.sources]
        self.run("-shared", *objects, *self.libraries, "-o", str(self.folder / "dfad_fast" / f"_C{suffix}"))

    def rebuild(self, mutated: str) -> None:
        """After a change of this file: itself, or for a header of the kernels the base tier."""
        source = self.folder / mutated
        self.compile(source if source in self.sources else self.folder / "csrc/cpu/tier_base.cpp")
        self.link()
