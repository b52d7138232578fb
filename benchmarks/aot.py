"""What the compiler makes of the Triton kernels: registers, spills, shared memory and bytes per load. Needs no GPU.

    python benchmarks/aot.py --json benchmarks/results/aot.json

Every launcher is called as in use, on tensors of the host; its launches are caught and compiled for each target with
the very specialisation (dtypes, alignment, divisibility) that a launch on a GPU would have.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import click
import torch
import triton
from rich.console import Console
from rich.table import Table
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, make_backend
from triton.runtime.jit import JITFunction, create_function_from_signature

from dfad_fast.kernels import boundary_hinge, interpolated, kl, l1, mixing, pack_signs

TARGETS = {
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "sm_100": GPUTarget("cuda", 100, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
SHAPE = (8, 64, 32)
COLUMNS = ("kernel", "case", "dtype", "target", "registers", "spills", "shared", "loads", "stores")


@dataclass(frozen=True)
class Case:
    """A call of a launcher on dense, aligned tensors.

    ``narrow`` gives the bytes of the loads that are not of the tensors' own elements, for elements of so many bytes;
    None where the kernel reads none of them.
    """

    kernel: str
    case: str
    call: Callable[[torch.dtype], None]
    narrow: Callable[[int], set[int]] | None = lambda element: set()


def _x(dtype: torch.dtype) -> torch.Tensor:
    return torch.empty(SHAPE, dtype=dtype)


def _bits() -> torch.Tensor:
    return torch.empty(_x(torch.float32).numel() // 8, dtype=torch.uint8)


def _scalar(dtype: torch.dtype) -> torch.Tensor:
    return torch.empty((), dtype=dtype)


def _hinge(
    dtype: torch.dtype, reduction: str, stages: int = 1, packed: bool = False, extras: bool = False
) -> None:
    out = _x(dtype) if reduction == "none" else _scalar(dtype)
    students, teachers = [_x(dtype)] * stages, [_bits() if packed else _x(dtype)] * stages
    agreement = torch.empty(stages) if extras else None
    signs = [_bits()] * stages if extras else None
    boundary_hinge.loss(students, teachers, [1.0] * stages, 1.0, reduction, out, agreement, signs)


def _hinge_gradient(dtype: torch.dtype, reduction: str) -> None:
    grad = _x(dtype) if reduction == "none" else _scalar(dtype)
    boundary_hinge.gradient(grad, [_x(dtype)], [_bits()], [1.0], 1.0, reduction, [_x(dtype)])


def _lam_perm() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.empty(SHAPE[0]), torch.arange(SHAPE[0])


def _mixing(launcher: Callable[..., None], dtype: torch.dtype) -> None:
    launcher([_x(dtype)], *_lam_perm(), [_x(dtype)])


def _kl(dtype: torch.dtype, gradient: bool) -> None:
    s, statistics = torch.empty(8, 1024, dtype=dtype), torch.empty(5, 8)
    if gradient:
        kl.gradient(_scalar(dtype), s, s, statistics, 4.0, "mean", torch.empty_like(s), torch.empty_like(s))
    else:
        kl.loss(s, s, 4.0, "mean", _scalar(dtype), statistics)


def _per_sample(element: int) -> set[int]:
    return {4, 8}  # lam, perm


CASES = (
    Case("boundary_hinge._loss_kernel", "mean", lambda d: _hinge(d, "mean")),
    Case("boundary_hinge._loss_kernel", "mean, agreement, signs", lambda d: _hinge(d, "mean", extras=True)),
    Case("boundary_hinge._loss_kernel", "mean, 4 stages", lambda d: _hinge(d, "mean", stages=4)),
    Case(
        "boundary_hinge._loss_kernel", "mean, packed", lambda d: _hinge(d, "mean", packed=True), lambda e: {1}
    ),
    Case("boundary_hinge._loss_kernel", "none", lambda d: _hinge(d, "none")),
    Case("boundary_hinge._gradient_kernel", "mean", lambda d: _hinge_gradient(d, "mean"), lambda e: {1, e}),
    Case("boundary_hinge._gradient_kernel", "none", lambda d: _hinge_gradient(d, "none"), lambda e: {1}),
    Case("pack_signs._pack_kernel", "", lambda d: pack_signs.pack_signs(_x(d), _bits())),
    Case("l1._loss_kernel", "mean", lambda d: l1.loss(_x(d), _x(d), "mean", _scalar(d))),
    Case("l1._loss_kernel", "none", lambda d: l1.loss(_x(d), _x(d), "none", _x(d))),
    Case(
        "l1._gradient_kernel",
        "mean",
        lambda d: l1.gradient(_scalar(d), _x(d), _x(d), "mean", _x(d), _x(d)),
        lambda e: {e},
    ),
    Case("kl._loss_kernel", "mean", lambda d: _kl(d, False)),
    Case("kl._gradient_kernel", "mean", lambda d: _kl(d, True), lambda e: {4, e}),
    Case("mixing._mix_kernel", "forward", lambda d: _mixing(mixing.mix, d), _per_sample),
    Case("mixing._mix_kernel", "backward", lambda d: _mixing(mixing.gradient, d), _per_sample),
    Case("_partners._inverse_kernel", "", lambda d: _mixing(mixing.gradient, d), None),
    Case(
        "interpolated._loss_kernel",
        "mean",
        lambda d: interpolated.loss(_x(d), _x(d), *_lam_perm(), "mean", _scalar(d)),
        _per_sample,
    ),
    Case(
        "interpolated._gradient_kernel",
        "mean",
        lambda d: interpolated.gradient(_scalar(d), _x(d), _x(d), *_lam_perm(), "mean", _x(d), _x(d)),
        lambda e: {4, 8, e},
    ),
    Case("_reduce._finish_kernel", "4 stages", lambda d: _hinge(d, "mean", stages=4, extras=True), None),
)


@contextmanager
def caught() -> Iterator[list[tuple[JITFunction, tuple[Any, ...], dict[str, Any]]]]:
    """Launches are noted instead of done."""
    launches: list[tuple[JITFunction, tuple[Any, ...], dict[str, Any]]] = []

    def note(self: JITFunction, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:
        launches.append((self, args, kwargs))

    with mock.patch.object(JITFunction, "run", note):
        yield launches


def specialize(
    target: GPUTarget, kernel: JITFunction, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[ASTSource, Any]:
    """The kernel as a launch with these arguments on this target would compile it, and the compiler's options."""
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
    source, options = specialize(TARGETS[target], *launch)
    compiled = triton.compile(source, target=TARGETS[target], options=options.__dict__)
    read = amd_figures if TARGETS[target].backend == "hip" else nvidia_figures
    return {
        "kernel": case.kernel,
        "case": case.case,
        "dtype": dtype,
        "target": target,
        "shared": compiled.metadata.shared,
        **read(compiled),
    }


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{count} x {width} B" for width, count in sorted(value.items(), reverse=True))
    return str(value)


def markdown(rows: list[dict[str, Any]]) -> str:
    lines = [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
    lines += [f"| {' | '.join(_text(row[c]) for c in COLUMNS)} |" for row in rows]
    lines.append("")
    lines.append(
        f"Triton {triton.__version__}. Registers per thread (vector registers on gfx942); spills in bytes of stack "
        "(registers on gfx942); shared memory in bytes per program; loads and stores: instructions by their width."
    )
    return "\n".join(lines)


@click.command()
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Also a .md table beside it.")
@click.option("--target", "targets", multiple=True, type=click.Choice(list(TARGETS)), help="Default: all.")
def main(json_file: Path | None, targets: tuple[str, ...]) -> None:
    """Compile every kernel for every target and print what came out."""
    if os.environ.get("TRITON_INTERPRET") == "1":
        raise click.UsageError("TRITON_INTERPRET=1 is set: nothing would be compiled")
    rows = [
        figures(case, dtype, target) for case in CASES for dtype in DTYPES for target in targets or TARGETS
    ]
    table = Table(*COLUMNS)
    for row in rows:
        table.add_row(*(_text(row[c]) for c in COLUMNS))
    Console(width=170).print(table)
    if json_file:
        json_file.write_text(json.dumps({"triton": triton.__version__, "kernels": rows}, indent=1) + "\n")
        json_file.with_suffix(".md").write_text(markdown(rows) + "\n")


if __name__ == "__main__":
    main()
