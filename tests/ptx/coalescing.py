"""Counts the sectors that the requests of one CUDA kernel use: ``python -m tests.ptx.coalescing KERNEL`` prints rows as
of ``benchmarks/run.py sectors``, as JSON. A process of its own, as the kernels stay in the place of the C++ ones.
"""

from __future__ import annotations

import json
import sys

from benchmarks.sectors.cases import CASES
from benchmarks.sectors.worker import table
from tests.ptx import cuda, emulator

OPS = {
    "boundary_hinge": ("boundary_hinge_loss", "boundary_hinge_loss packed"),
    "interpolated": ("interpolated_l1",),
    "l1": ("l1_discrepancy", "l1_discrepancy none"),
    "mixing": ("mixup",),
}
# Shares that loads and stores have to use. Lower ones have a reason:
LEAST = {
    ("mixup", "10 classes"): 0.53,  # a partner's row has 20 or 40 bytes, wherever it lies
    ("interpolated_l1", "10 classes"): 0.52,
    ("aligned",): 0.95,
}
ELSE = 0.75


def least(op: str, layout: str) -> float:
    """The share that this case's requests have to use."""
    return LEAST.get((layout,), LEAST.get((op, layout), ELSE))


def main(kernel: str) -> None:
    emulator.know_tensors()
    cuda.serve([kernel, "transpose"])
    rows = table("cuda", [case for case in CASES if case.op in OPS[kernel]])
    if findings := emulator.take_findings():
        sys.exit("\n".join(map(str, findings)))
    print(json.dumps(rows))


if __name__ == "__main__":
    main(sys.argv[1])
