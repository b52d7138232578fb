"""nvcc's PTX of the CUDA kernels in the place of the C++ kernels: launched by the project's own host code, which the
shim has compiled for the CPU."""

from __future__ import annotations

import ctypes
import functools
import subprocess
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from tests.cuda.build_shim import CSRC, build_shim, load_shim, shim_library
from tests.cuda.names import demangled
from tests.ptx import emulator
from tests.ptx.build import cuda_ptx

KERNELS = tuple(path.stem for path in sorted(CSRC.glob("cuda/*.cu")) if path.stem != "build")
SETTER = "cuda_shim_set_launcher"


@functools.cache
def _host_functions(library: Path) -> dict[tuple[str, str], list[int]]:
    """Where each function of each source lies, by its demangled name, from the library's beginning."""
    text = subprocess.run(
        ["nm", "--no-sort", "--debug-syms", library], capture_output=True, text=True, check=True
    ).stdout
    source, found = "", []
    for line in text.splitlines():
        address, kind, name = line[:16].strip(), line[17:18], line[19:]
        if kind == "a":
            source = name
        elif kind in "tTwW":
            found.append((source, name, int(address or "0", 16)))
    functions: dict[tuple[str, str], list[int]] = defaultdict(list)
    for (source, _, place), name in zip(found, demangled(name for _, name, _ in found), strict=True):
        functions[source, name].append(place)
    return functions


def serve_module(kernel: str, module: int) -> None:
    """Let this module serve the kernels of ``csrc/cuda/KERNEL.cu``."""
    path = build_shim()
    functions = _host_functions(path)
    (setter,) = (places[0] for (_, name), places in functions.items() if name == SETTER)
    loaded_at = ctypes.cast(getattr(shim_library(), SETTER), ctypes.c_void_p).value
    assert loaded_at is not None
    begin = loaded_at - setter
    entries = emulator.kernels(module)
    for entry, name in zip(entries, demangled(entries), strict=True):
        # What comes with a header the linker may keep for another source alone, or for none.
        elsewhere = (place for (_, other), places in functions.items() if other == name for place in places)
        for address in functions.get((f"{kernel}.cu", name)) or elsewhere:
            emulator.library().ptx_serve(begin + address, module, entry.encode())


@functools.cache
def module_of(kernel: str) -> int:
    return emulator.load(cuda_ptx(kernel).read_text(), f"{kernel}.cu")


def serve(kernels: Iterable[str] = KERNELS) -> None:
    """From here on the ops run these kernels' PTX on CPU tensors, in this process; a launch of another one fails."""
    load_shim()
    getattr(shim_library(), SETTER)(ctypes.cast(emulator.library().ptx_host_launch, ctypes.c_void_p))
    for kernel in kernels:
        serve_module(kernel, module_of(kernel))
