"""The PTX of the CUDA kernels with one fault put into each: ``python -m tests.ptx.mutants KERNEL`` prints what shows of
them, as JSON. A process of its own, as the kernels stay in the place of the C++ ones.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass

from tests.cuda.build_shim import shim_library
from tests.ptx import cuda, emulator
from tests.ptx.build import cuda_ptx
from tests.ptx.exercise import exercise, needed

BARRIER = r"bar\.sync \t0;"
SKIPPED_BY_ONE_THREAD = (
    "{ .reg .pred %others; .reg .u32 %thread; mov.u32 %thread, %tid.x; setp.ne.u32 %others, %thread, 5; "
    "@%others bar.sync 0; }"
)
VALUES = "are not close"


@dataclass(frozen=True)
class Mutant:
    """In the PTX of ``kernel`` each match of ``pattern`` becomes ``instead``; then ``shows`` must be found."""

    name: str
    kernel: str
    pattern: str
    instead: str
    shows: str


MUTANTS = (
    Mutant("no barrier", "l1", BARRIER, "", "shared memory that nobody wrote"),
    Mutant("a barrier that one thread skips", "l1", BARRIER, SKIPPED_BY_ONE_THREAD, "never reach"),
    Mutant("shuffles the other way", "l1", r"shfl\.sync\.down", "shfl.sync.up", VALUES),
    Mutant(
        "a shuffle without the last lane",
        "l1",
        r"mov\.u32 \t(%r\d+), -1;",
        r"mov.u32 \1, 0x7fffffff;",
        "own member mask",
    ),
    Mutant(
        "a tail without an end",
        "l1",
        r"setp\.(ge|lt)\.s64 \t(%p\d+), (%rd\d+), %rd\d+;",
        r"setp.\1.s64 \t\2, \3, 0x7fffffffffffffff;",
        "out of bounds",
    ),
    Mutant(
        "a tile that reaches beyond the end",
        "l1",
        r"(add\.s64 \t%rd\d+, %rd\d+), 256;",
        r"\1, 1;",
        "out of bounds",
    ),
    Mutant(
        "stores of half the width",
        "l1",
        r"st\.global\.wb\.v4\.u32 (\[%rd\d+\]), \{(%r\d+),(%r\d+),%r\d+,%r\d+\}",
        r"st.global.wb.v2.u32 \1, {\2,\3}",
        VALUES,
    ),
    Mutant(
        "loads that lie 4 bytes off",
        "l1",
        r"(ld\.global\.v4\.u32 \t\{[^}]*\}, \[%rd\d+)\]",
        r"\1+4]",
        "not aligned",
    ),
    Mutant(
        "blocks that all take the first chunk",
        "l1",
        r"mov\.u32 \t(%r\d+), %ctaid\.x;",
        r"mov.u32 \1, 0;",
        VALUES,
    ),
    Mutant(
        "warps whose tiles overlap",
        "l1",
        r"mul\.wide\.u32 \t(%rd\d+), (%r\d+), 256;",
        r"mul.wide.u32 \1, \2, 128;",
        VALUES,
    ),
    Mutant(
        "signs of a neighbor's lane",
        "l1",
        r"(shfl\.sync\.idx\.b32 \t%r\d+\|%p\d+, %r\d+), %r\d+,",
        r"\1, 0,",
        VALUES,
    ),
    Mutant(
        "a sum that does not begin at 0", "l1", r"mov\.f64 \t%fd\d+, 0d0{16};", "", "which was not written"
    ),
    Mutant(
        "sums that are counted before they are written",
        "l1",
        r"membar\.gl;([^{}]{1,300}?atom\.global\.inc)",
        r"\1",
        "race",
    ),
    Mutant(
        "a last block that does not wait for the others' sums",
        "l1",
        r"(atom\.global\.inc[^{}]{1,300}?)membar\.gl;",
        r"\1",
        "race",
    ),
    Mutant(
        "a counter that is not set back",
        "l1",
        r"(atom\.global\.inc\.u32 \t%r\d+, \[%rd\d+\]), %r\d+;",
        r"\1, -1;",
        VALUES,
    ),
    Mutant(
        "blocks that all take themselves for the last",
        "l1",
        r"setp\.(eq|ne)\.s16 \t(%p\d+), (%rs\d+), 0;",
        r"setp.\1.s16 \t\2, 1, 0;",
        "race",
    ),
    Mutant("an inverse without a barrier", "mixing", BARRIER, "", "race"),
    Mutant("a transposition without a barrier", "transpose", BARRIER, "", "nobody wrote"),
    Mutant(
        "a transposition that reads beyond its matrix",
        "transpose",
        r"setp\.(ge|lt)\.s64 \t(%p\d+), (%rd\d+), %rd\d+;",
        r"setp.\1.s64 \t\2, \3, 0x7fffffffffffffff;",
        "out of bounds",
    ),
    Mutant("sums of channels without a barrier", "channel_statistics", BARRIER, "", "race"),
    Mutant("norms without a barrier", "batch_norm_act", BARRIER, "", "nobody wrote"),
    Mutant("statistics of rows without a barrier", "kl", BARRIER, "", "race"),
    Mutant(
        "a row's lanes that ask their neighbor only",
        "kl",
        r"(shfl\.sync\.bfly\.b32 \t%r\d+\|%p\d+, %r\d+), %r\d+,",
        r"\1, 1,",
        VALUES,
    ),
)


def _mutated(mutant: Mutant) -> str:
    ptx, count = re.subn(mutant.pattern, mutant.instead, cuda_ptx(mutant.kernel).read_text())
    assert count > 0, f"the PTX of {mutant.kernel}.cu no longer has {mutant.pattern}: adapt the mutant"
    return ptx


def _seen(kernel: str) -> str:
    """What is found in a run, and where values are wrong what the comparison says."""
    try:
        exercise(kernel)
    except (AssertionError, RuntimeError) as error:
        return "\n".join((str(error), *map(str, emulator.take_findings())))
    return ""


def main(kernel: str) -> None:
    emulator.know_tensors()
    cuda.serve(needed(kernel))
    seen = {"": _seen(kernel)}
    for stream, mutant in enumerate(MUTANTS):
        if mutant.kernel == kernel:
            # A counter of its own: what a mutant leaves in it is not the next one's.
            shim_library().cuda_shim_use_stream(stream + 1, False)
            cuda.serve_module(kernel, emulator.load(_mutated(mutant), mutant.name))
            seen[mutant.name] = _seen(kernel)
    print(json.dumps(seen))


if __name__ == "__main__":
    main(sys.argv[1])
