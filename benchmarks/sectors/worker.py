"""Counts the requests of one compiler's kernels: ``python -m benchmarks.sectors.worker cuda|triton TABLE.json``. A
process of its own, as the PTX stays in the place of the C++ kernels.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.sectors.cases import CASES, OPS, Case
from tests.ptx import emulator
from tests.ptx.serving import serve

SEED = 0


def counts() -> dict[str, Any]:
    """Bytes used, sectors and requests of all kernels since the last call."""
    total: Counter[str] = Counter()
    for found in emulator.take_sectors():
        if found.kind.startswith("single "):
            total["single"] += found.requests
            continue
        for name in ("requests", "sectors", "bytes"):
            total[f"{found.kind} {name}"] += getattr(found, name)
    return dict(total)


def rows(case: Case) -> list[dict[str, Any]]:
    """One forward, one backward."""
    torch.manual_seed(SEED)
    op, tensors = OPS[case.op], case.tensors()
    emulator.take_sectors()
    out = op.call(*tensors)
    forward = counts()
    outputs = [out] if isinstance(out, torch.Tensor) else list(out)
    grads = [torch.randn_like(x) for x in outputs]
    torch.autograd.grad(outputs, [tensors[k] for k in op.leaves], grads)
    return [{"direction": "forward", **forward}, {"direction": "backward", **counts()}]


def table(compiler: str, cases: Sequence[Case]) -> list[dict[str, Any]]:
    """Rows of cases whose kernels are served from here on."""
    emulator.count_sectors(True)
    return [
        {"op": case.op, "compiler": compiler, "dtype": case.dtype, "layout": case.layout, **row}
        for case in cases
        for row in rows(case)
    ]


def main(compiler: str, file: Path) -> None:
    torch.set_num_threads(1)
    emulator.know_tensors()
    served = serve(f"{compiler}-ptx")
    file.write_text(json.dumps(table(compiler, CASES)))
    del served


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
