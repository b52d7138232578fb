"""Triton's PTX of its kernels in the place of the C++ kernels. Its compiler needs neither a GPU nor nvcc."""

from __future__ import annotations

import inspect
import os
import struct
from collections.abc import Iterator
from typing import Any

import torch

from tests.ptx import emulator
from tests.ptx.build import CACHE

os.environ.setdefault("TRITON_CACHE_DIR", str(CACHE / "triton"))

import triton
from triton.backends.compiler import GPUTarget
from triton.runtime.jit import JITFunction

from benchmarks.aot.compiling import specialize

TARGET = GPUTarget("cuda", 80, 32)
FORMATS = {
    "i1": "?",
    "i8": "b",
    "i16": "h",
    "i32": "i",
    "i64": "q",
    "u1": "?",
    "u8": "B",
    "u16": "H",
    "u32": "I",
    "u64": "Q",
    "fp32": "f",
    "fp64": "d",
}
_modules: dict[str, tuple[int, Any]] = {}


def _module_of(source: Any, options: Any, label: str) -> tuple[int, Any]:
    key = source.hash() + options.hash()
    if key not in _modules:
        compiled = triton.compile(source, target=TARGET, options=options.__dict__)
        _modules[key] = emulator.load(compiled.asm["ptx"], label), compiled.metadata
    return _modules[key]


def _packed(kind: Any, value: Any) -> Iterator[bytes]:
    """A kernel's argument as it lies in memory; a tuple's are arguments each."""
    if isinstance(kind, tuple):
        for one, each in zip(kind, value, strict=True):
            yield from _packed(one, each)
    elif kind.startswith("*"):
        yield struct.pack("Q", value.data_ptr())
    elif kind != "constexpr":
        yield struct.pack(FORMATS[kind], value)


def run(self: JITFunction, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:
    """Compiles as for a GPU, and launches in the emulator."""
    source, options = specialize(TARGET, self, args, kwargs)
    signature = inspect.signature(self.fn)
    values = signature.bind(*args, **{k: v for k, v in kwargs.items() if k in signature.parameters}).arguments
    module, metadata = _module_of(source, options, self.fn.__module__.rpartition(".")[2])
    arguments = [
        packed for name, kind in source.signature.items() for packed in _packed(kind, values.get(name))
    ]
    scratch = [struct.pack("Q", 0)] * 2  # global memory and a profiler's, of which no kernel has any
    emulator.launch(
        module, metadata.name, grid[0], 32 * metadata.num_warps, metadata.shared, arguments + scratch
    )


def serve() -> torch.library.Library:
    """From here on the ops run Triton's PTX on CPU tensors, in this process; as long as what is returned lives."""
    from dfad_fast.ops import _triton

    JITFunction.run = run
    return _triton.register("CPU")
