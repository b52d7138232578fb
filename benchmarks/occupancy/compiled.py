"""What ptxas makes of nvcc's PTX of the CUDA kernels."""

from __future__ import annotations

import shutil
import subprocess
from typing import Any

from benchmarks.occupancy.devices import DEVICES
from tests.cuda.registers import Kernel, kernels
from tests.ptx.build import cuda_ptx, missing

THREADS = 256  # of every block, as in csrc/cuda/launch.h
# Operands, and elements of each, whose loads a thread issues before it waits, as in csrc/cuda. Where channels are
# neighbors in memory, channel_statistics issues half of that, and twelve numbers per channel that a cache may have.
LOADS = {
    "boundary_hinge.cu: losses<float>": (2, 8),
    "boundary_hinge.cu: gradients<float>": (1, 8),
    "boundary_hinge.cu: signs<float>": (1, 8),
    "channel_statistics.cu: gradients<float>": (1, 8),
    "interpolated.cu: losses<float>": (3, 4),
    "interpolated.cu: student_gradients<float>": (3, 4),
    "interpolated.cu: gradients<float>": (5, 4),
    "l1.cu: losses<float>": (2, 8),
    "mixing.cu: mix<float>": (2, 8),
    "transpose.cu: transpose_squares<unsigned int>": (1, 4),
}
SOURCES = ("boundary_hinge", "channel_statistics", "interpolated", "l1", "mixing", "transpose")
BYTES = {"float32": 4, "bfloat16": 2}


class Unavailable(Exception):
    """The kernels cannot be compiled here; the text says why."""


def _log(source: str, architecture: str) -> str:
    command = ["ptxas", "-v", f"-arch={architecture}", str(cuda_ptx(source)), "-o", "/dev/null"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unavailable(
            f"ptxas for {architecture}: {done.stderr.strip() or f'exit code {done.returncode}'}"
        )
    return done.stderr


def row(kernel: Kernel) -> dict[str, Any]:
    """Blocks that a multiprocessor holds, and the bytes that these have on their way beside those wanted."""
    device = DEVICES[kernel.arch]
    blocks = device.blocks(THREADS, kernel.registers, kernel.shared)
    operands, elements = LOADS[kernel.name]
    return {
        "kernel": kernel.name,
        "architecture": kernel.arch,
        "registers": kernel.registers,
        "spilled": kernel.spilled + kernel.stack,
        "blocks": blocks,
        "wanted": round(device.wanted),
        **{dtype: blocks * THREADS * operands * elements * size for dtype, size in BYTES.items()},
    }


def rows() -> list[dict[str, Any]]:
    """A row for each architecture and each kernel of ``LOADS``.

    Raises:
        Unavailable: nvcc or ptxas is missing or does not know an architecture, or a kernel has another name.
    """
    if reason := missing():
        raise Unavailable(reason)
    if shutil.which("ptxas") is None:
        raise Unavailable("ptxas not found: add the folder bin of the CUDA toolkit to PATH")
    logs = "\n".join(_log(source, architecture) for source in SOURCES for architecture in DEVICES)
    order = list(DEVICES)
    found = [kernel for kernel in kernels(logs) if kernel.name in LOADS]
    if absent := LOADS.keys() - {kernel.name for kernel in found}:
        raise Unavailable(
            f"no kernel is called {', '.join(sorted(absent))}: name it in benchmarks/occupancy as it is"
        )
    return [row(kernel) for kernel in sorted(found, key=lambda k: (k.name, order.index(k.arch)))]
