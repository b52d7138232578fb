"""Counts the sectors that the requests of one CUDA kernel use: ``python -m tests.ptx.coalescing KERNEL`` prints rows as
of ``benchmarks/run.py sectors``, as JSON. A process of its own, as the kernels stay in the place of the C++ ones.
"""

from __future__ import annotations

import json
import sys

from benchmarks.sectors.cases import CASES
from benchmarks.sectors.counting import Row
from benchmarks.sectors.worker import table
from tests.ptx import cuda, emulator

OPS = {
    "batch_norm_act": ("batch_norm_act",),
    "boundary_hinge": ("boundary_hinge_loss", "boundary_hinge_loss packed"),
    "channel_statistics": ("channel_statistics",),
    "interpolated": ("interpolated_l1",),
    "kl": ("kl_discrepancy",),
    "l1": ("l1_discrepancy", "l1_discrepancy none"),
    "mixing": ("mixup",),
}
# Shares that loads and stores have to use, of both dtypes. Lower ones have a reason:
LEAST: dict[tuple[str, ...], float] = {
    ("mixup", "10 classes"): 0.53,  # a partner's row has 20 or 40 bytes, wherever it lies
    ("interpolated_l1", "10 classes"): 0.52,
    ("aligned",): 0.95,
    ("batch_norm_act", "10 classes"): 0.61,  # two rows of 20 bytes
    ("batch_norm_act", "off by 4 bytes", "forward", "load"): 0.66,  # 64 bytes in three sectors
    ("channel_statistics", "aligned", "backward", "load"): 0.88,  # numbers of the two channels of a request
    ("channel_statistics", "10 classes", "forward", "load"): 0.59,  # one or two rows of 20 bytes
    ("channel_statistics", "off by 4 bytes", "forward", "load"): 0.68,  # as above
    ("kl_discrepancy", "10 classes", "forward", "load"): 0.62,  # two rows of 20 bytes
    ("kl_discrepancy", "10 classes", "backward", "load"): 0.71,  # such rows, and statistics
    ("kl_discrepancy", "10 classes", "backward", "store"): 0.62,
    ("kl_discrepancy", "off by 4 bytes"): 0.66,  # as above
    ("kl_discrepancy", "1,000 classes"): 0.66,
}
ELSE = 0.75


def least(row: Row, kind: str) -> float:
    """The share that this row's loads, or stores, have to use."""
    op, layout = row["op"], row["layout"]
    keys = ((op, layout, row["direction"], kind), (op, layout), (layout,))
    return next((LEAST[key] for key in keys if key in LEAST), ELSE)


def main(kernel: str) -> None:
    emulator.know_tensors()
    cuda.serve([kernel, "transpose"])
    rows = table("cuda", [case for case in CASES if case.op in OPS[kernel]])
    if findings := emulator.take_findings():
        sys.exit("\n".join(map(str, findings)))
    print(json.dumps(rows))


if __name__ == "__main__":
    main(sys.argv[1])
