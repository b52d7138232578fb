r"""Calls every C++ kernel under valgrind's callgrind, which records the instructions of each call.

    valgrind --tool=callgrind --instr-atstart=no --collect-atstart=no \
        python -m benchmarks.instructions.worker TABLE.json

Counts are dumped in the order of the rows in TABLE.json, ``REPEATS`` for each.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.ops.problems import Case, Problem
from benchmarks.ops.proof import backward, make_problem
from benchmarks.ops.registry import OPS
from dfad_fast import ops

REPEATS = 3
IMAGES = ((4, 32, 16, 16), (32, 32, 3, 3))  # and filters
STAGES = ((32, 16, 16, 16), (32, 32, 8, 8))
SHAPES = {
    "boundary_hinge_loss": STAGES,
    "boundary_hinge_loss packed": STAGES,
    "pack_signs": STAGES[:1],
    "l1_discrepancy": ((1024, 100),),
    "kl_discrepancy": ((1024, 100),),
    "batch_norm_act": STAGES[:1],
    "batch_norm_statistics_loss": STAGES,
    "interpolated_l1": ((1024, 100),),
    "mixup": ((32, 3, 32, 32),),
    "virtual_batch": ((32, 3, 32, 32), (32, 100)),
}
DTYPES = (torch.float32, torch.bfloat16)
Kernel = tuple[str, str, Callable[..., Any], Problem]  # name, dtype, function, inputs


def _of_registry(name: str, dtype: torch.dtype) -> Kernel:
    case = Case(name, SHAPES[name], "", dtype, both_sides=name in ("l1_discrepancy", "kl_discrepancy"))
    return name, case.dtype_name, OPS[name].ours, make_problem(case, "cpu")


def _convolution(name: str, function: Callable[..., Any]) -> Kernel:
    images, filters = (torch.randn(shape, requires_grad=True) for shape in IMAGES)
    grad = torch.randn(function(images, filters).shape)
    return name, "float32", function, Problem((images, filters), (images, filters), (grad,))


def _generator_block(images: torch.Tensor, filters: torch.Tensor) -> torch.Tensor:
    ones, zeros = torch.ones(IMAGES[0][1]), torch.zeros(IMAGES[0][1])
    return ops.generator_block(images, filters, zeros, ones, zeros, slope=0.2)[0]


def kernels() -> list[Kernel]:
    return [
        *(_of_registry(name, dtype) for name in SHAPES for dtype in DTYPES),
        _convolution("winograd_conv2d", ops.winograd_conv2d),
        _convolution("narrow_conv2d", partial(ops.narrow_conv2d, tile=4)),
        _convolution("narrow_conv2d stride 2", partial(ops.narrow_conv2d, stride=2)),
        _convolution("generator_block", _generator_block),
    ]


def _count(call: Callable[[], object]) -> None:
    torch._C._valgrind_toggle()
    call()
    torch._C._valgrind_toggle_and_dump_stats()


def main(table: Path) -> None:
    from dfad_fast import _C

    torch.set_num_threads(1)
    torch.manual_seed(0)
    # Counting starts only now, because under callgrind torch's import would take minutes.
    subprocess.run(["callgrind_control", "--instr=on", str(os.getpid())], check=True, capture_output=True)
    rows = []
    for tier in _C.supported_tiers():
        _C.set_tier(tier)
        for name, dtype, function, problem in kernels():
            outputs = [function(*problem.arguments) for _ in range(REPEATS + 1)]
            elements = sum(leaf.numel() for leaf in problem.leaves) or problem.arguments[0].numel()
            row = {"case": f"{name} {dtype}", "tier": tier, "elements": elements}
            rows.append({**row, "direction": "forward"})
            for _ in range(REPEATS):
                _count(partial(function, *problem.arguments))
            if problem.leaves:
                backward(outputs.pop(), problem)
                rows.append({**row, "direction": "backward"})
                for out in outputs:
                    _count(partial(backward, out, problem))
    table.write_text(json.dumps(rows))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
