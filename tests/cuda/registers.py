"""Registers and spills of every CUDA kernel, as ptxas reports them: ``python -m tests.cuda.registers [log]`` prints
them as a table. ``make cuda`` writes the log.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import NamedTuple

from tests.cuda.names import demangled

BUILD = Path(__file__).resolve().parents[2] / "build" / "cuda"
LOG = BUILD / "build.log"
ENTRY = re.compile(
    r"Compiling entry function '(?P<name>\w+)' for '(?P<arch>\w+)'.*?"
    r"(?P<stack>\d+) bytes stack frame, (?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes spill loads.*?"
    r"Used (?P<registers>\d+) registers(?P<rest>[^\n]*)",
    re.DOTALL,
)


class Kernel(NamedTuple):
    name: str
    arch: str
    registers: int
    stack: int
    spilled: int
    shared: int


def _readable(mangled: str) -> str:
    (name,) = demangled([mangled])
    name = re.sub(r"^void |dfad::cuda::", "", name).partition("(")[0]
    # A kernel of one file: a hash, which may have digits alone, the length of the file's name, and that.
    source = re.search(r"__N__[0-9a-f]+_\d+_([a-z_0-9]+?)_cu_", mangled)
    return f"{source[1]}.cu: {name}" if source else name


def kernels(log: str) -> list[Kernel]:
    """Every kernel of a build's log, once for each architecture."""
    found = set()
    for m in ENTRY.finditer(log):
        shared = re.search(r"(\d+) bytes smem", m["rest"])
        found.add(
            Kernel(
                _readable(m["name"]),
                m["arch"],
                int(m["registers"]),
                int(m["stack"]),
                int(m["stores"]) + int(m["loads"]),
                int(shared[1]) if shared else 0,
            )
        )
    return sorted(found)


def table(log: str) -> str:
    lines = [
        "# Registers of the CUDA kernels",
        "",
        "From `ptxas -v`, 256 threads per block (`make cuda`, `python -m tests.cuda.registers`). No GPU was needed.",
        "",
        "| kernel | architecture | registers | stack, bytes | spilled, bytes | shared, bytes |",
        "|---|---|---|---|---|---|",
    ]
    for kernel in kernels(log):
        lines.append("| " + " | ".join((f"`{kernel.name}`", *map(str, kernel[1:]))) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(Path(sys.argv[1] if len(sys.argv) > 1 else LOG).read_text()))
