"""The cases of ``run.py ops`` under pytest-benchmark: one process, one contender after another.

    pytest benchmarks --benchmark-only -k "virtual_batch and not compile"
    pytest benchmarks --benchmark-only --benchmark-autosave; pytest benchmarks --benchmark-only --benchmark-compare

For a quick look, and to compare kernels during development. Its contenders share a process with an unpinned allocator
and do not take turns, so publish figures from ``run.py`` only.
"""

from collections.abc import Iterator
from typing import Any

import pytest
import torch

pytest.importorskip("pytest_benchmark")

from benchmarks.ops.cases import CASES
from benchmarks.ops.contestant import Contestant
from benchmarks.ops.problems import Case
from benchmarks.ops.registry import INFERENCE, OPS

LARGE = 2**24  # elements; several tensors of this size exceed the memory of many machines


def _heats() -> Iterator[Any]:
    for case in CASES:
        marks = [pytest.mark.slow] if case.elements > LARGE else []
        for mode in dict.fromkeys((INFERENCE, OPS[case.op].modes[-1])):
            for contender in OPS[case.op].contenders:
                yield pytest.param(case, mode, contender, id=f"{case.name}-{mode}-{contender}", marks=marks)


@pytest.mark.parametrize(("case", "mode", "contender"), list(_heats()))
def test_op(benchmark: Any, case: Case, mode: str, contender: str) -> None:
    torch.compiler.reset()
    benchmark.group = f"{case.name}, {mode}"
    contestant = Contestant(case, contender, "cpu")
    contestant.prepare()
    verdict = contestant.check()
    assert verdict["error"] <= verdict["tolerance"]
    benchmark.extra_info.update(
        contender=contender, minimum_bytes=OPS[case.op].moved(contestant.problem, mode)
    )
    with torch.set_grad_enabled(mode != INFERENCE):
        benchmark(contestant.calls(mode, 1)[0])
