"""The emulator's library, as Python calls it."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from typing import NamedTuple

from tests.ptx.build import build_emulator


class Finding(NamedTuple):
    times: int
    what: str
    kernel: str
    instruction: str

    def __str__(self) -> str:
        return f"{self.what} ({self.times} times, {self.kernel}, {self.instruction})"


class Sectors(NamedTuple):
    """What the requests of all warps to global memory moved, in sectors of 32 bytes, and used.

    ``kind`` is load or store; single load or single store where all lanes of a warp access the same element.
    """

    kernel: str
    kind: str
    requests: int
    sectors: int
    bytes: int

    @property
    def used(self) -> float:
        """The share of the bytes moved."""
        return self.bytes / (32 * self.sectors)


@functools.cache
def library() -> ctypes.CDLL:
    found = ctypes.CDLL(str(build_emulator()))
    for name in ("ptx_error", "ptx_kernels", "ptx_take_findings", "ptx_take_sectors"):
        getattr(found, name).restype = ctypes.c_char_p
    found.ptx_instructions.restype = ctypes.c_ulonglong
    found.ptx_serve.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p)
    return found


def _checked(result: int) -> int:
    if result < 0:
        raise RuntimeError(f"PTX emulator: {library().ptx_error().decode()}")
    return result


def know_tensors() -> None:
    """From here on every tensor on the CPU is known to the emulator, and no other memory is."""
    library().ptx_know_tensors()


def load(ptx: str, label: str) -> int:
    """The number of a new module.

    Raises:
        RuntimeError: the PTX has something in it that the emulator does not know; the text says what.
    """
    return _checked(library().ptx_load(ptx.encode(), label.encode()))


def kernels(module: int) -> list[str]:
    return library().ptx_kernels(module).decode().split()


def launch(
    module: int, kernel: str, blocks: int, threads: int, shared: int, arguments: Sequence[bytes]
) -> None:
    """Run a grid; each argument as it lies in memory.

    Raises:
        RuntimeError: the kernel cannot go on; the text says why.
    """
    count = len(arguments)
    buffers = [ctypes.create_string_buffer(argument, len(argument)) for argument in arguments]
    addresses = (ctypes.c_void_p * count)(*map(ctypes.addressof, buffers))
    sizes = (ctypes.c_size_t * count)(*map(len, arguments))
    run = library().ptx_launch
    _checked(
        run(
            module,
            kernel.encode(),
            blocks,
            threads,
            ctypes.c_size_t(shared),
            ctypes.c_size_t(count),
            addresses,
            sizes,
        )
    )


def take_findings() -> list[Finding]:
    """What was found since the last call."""
    lines = (line.split("\t") for line in library().ptx_take_findings().decode().splitlines())
    return [Finding(int(count), *rest) for count, *rest in lines]


def count_sectors(wanted: bool) -> None:
    library().ptx_count_sectors(wanted)


def take_sectors() -> list[Sectors]:
    """Counts of every kernel since the last call."""
    lines = (line.split("\t") for line in library().ptx_take_sectors().decode().splitlines())
    return [Sectors(kernel, kind, *map(int, counts)) for kernel, kind, *counts in lines]
