"""Intercepts launches and compiles them for a target.

They get exactly the specialization (dtypes, alignment, divisibility) that they would have on a GPU.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, make_backend
from triton.runtime.jit import JITFunction, create_function_from_signature

from benchmarks.aot.cases import DTYPES, Case
from benchmarks.aot.targets import TARGETS


@contextmanager
def caught() -> Iterator[list[tuple[JITFunction, tuple[Any, ...], dict[str, Any]]]]:
    """Records launches instead of running them."""
    launches: list[tuple[JITFunction, tuple[Any, ...], dict[str, Any]]] = []

    def note(self: JITFunction, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:
        launches.append((self, args, kwargs))

    with mock.patch.object(JITFunction, "run", note):
        yield launches


def specialize(
    target: GPUTarget, kernel: JITFunction, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[ASTSource, Any]:
    """The source that a launch with these arguments on this target would compile, and the compiler's options."""
    backend = make_backend(target)
    bind = create_function_from_signature(kernel.signature, kernel.params, backend)
    bound, specialization, options = bind(*args, **kwargs)
    options, signature, constants, attributes = kernel._pack_args(
        backend, kwargs, bound, specialization, options
    )
    return ASTSource(kernel, signature, constants, attributes), options


def nvidia_figures(compiled: Any) -> dict[str, Any]:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        Path(file.name).write_bytes(compiled.asm["cubin"])
        command = [triton.knobs.nvidia.cuobjdump.path, "--dump-resource-usage", file.name]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    usage = {name: int(value) for name, value in re.findall(r"\b(REG|STACK|LOCAL):(\d+)", text)}
    ptx = compiled.asm["ptx"]

    def widths(kind: str) -> Counter[int]:
        found = re.findall(rf"\b{kind}\.global[\w.:]*?(?:\.v(\d))?\.[bfus](\d+)\s", ptx)
        return Counter(int(vector or 1) * int(bits) // 8 for vector, bits in found)

    return {
        "registers": usage["REG"],
        "spills": usage["STACK"] + usage["LOCAL"],
        "loads": widths("ld"),
        "stores": widths("st"),
    }


AMD_BYTES = {"byte": 1, "ubyte": 1, "sbyte": 1, "short": 2, "ushort": 2, "sshort": 2, "dword": 4}


def amd_figures(compiled: Any) -> dict[str, Any]:
    text = compiled.asm["amdgcn"]

    def number(field: str) -> int:
        (value,) = re.findall(rf"^\s+\.{field}:\s+(\d+)$", text, re.MULTILINE)
        return int(value)

    def widths(kind: str) -> Counter[int]:
        found = re.findall(rf"\b(?:global|buffer|flat)_{kind}_([a-z]+)(?:_d16\w*)?(?:x(\d))?\b", text)
        return Counter(AMD_BYTES[unit] * int(count or 1) for unit, count in found)

    return {
        "registers": number("vgpr_count"),
        "spills": number("vgpr_spill_count") + number("sgpr_spill_count"),
        "loads": widths("load"),
        "stores": widths("store"),
    }


def figures(case: Case, dtype: str, target: str) -> dict[str, Any]:
    with caught() as launches:
        case.call(DTYPES[dtype])
    module, _, name = case.kernel.rpartition(".")
    (launch,) = (x for x in launches if x[0].__name__ == name and x[0].__module__.endswith(f".{module}"))
    gpu = GPUTarget(*TARGETS[target])
    source, options = specialize(gpu, *launch)
    compiled = triton.compile(source, target=gpu, options=options.__dict__)
    read = amd_figures if gpu.backend == "hip" else nvidia_figures
    return {
        "kernel": case.kernel,
        "case": case.case,
        "dtype": dtype,
        "target": target,
        "shared": compiled.metadata.shared,
        **read(compiled),
    }
