"""The ops that are measured: that contenders agree, that a wrong one is seen, and what has to move."""

import math

import pytest
import torch

from benchmarks.measuring.results import OURS
from benchmarks.ops.cases import CASES
from benchmarks.ops.problems import Case
from benchmarks.ops.proof import make_problem, relative_error, results
from benchmarks.ops.registry import GRAPH, OPS, TOLERANCE, tolerance

from .tiny import TINY, tiny


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("op", OPS)
def test_contenders_agree(op, dtype):
    case = tiny(op, dtype=dtype, both_sides=op not in TINY)
    problem = make_problem(case, "cpu")
    formulas = OPS[op].formulas
    want = results(next(iter(formulas.values())), problem.to(torch.float64))
    for name, contender in (*formulas.items(), (OURS, OPS[op].ours)):
        got = results(contender, problem)
        assert len(got) == len(want)
        for g, w in zip(got, want, strict=True):
            assert relative_error(g, w) <= tolerance(case, name)


@pytest.mark.parametrize("op", [op for op in OPS if OPS[op].backward_bytes])
def test_a_wrong_contender_is_seen(op):
    problem = make_problem(tiny(op), "cpu")
    want = results(OPS[op].ours, problem)
    for i, good in enumerate(want):
        # One element of the smallest results, a whole sample of the others.
        spoilt = good.clone(memory_format=torch.contiguous_format)
        spoilt.view(-1)[: max(1, spoilt.numel() // 7)] *= 1.05
        assert relative_error(spoilt, good) > TOLERANCE[torch.float32], i
    assert relative_error(want[0][..., None], want[0]) == math.inf
    assert relative_error(torch.full_like(want[0], math.nan), want[0]) == math.inf


def test_registry_is_sound():
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)
    assert {case.op for case in CASES} == set(OPS)
    assert {case.op for case in CASES if case.quick} >= {
        "boundary_hinge_loss",
        "l1_discrepancy",
        "virtual_batch",
    }
    assert all(case.dtype in TOLERANCE for case in CASES)
    for op in OPS.values():
        assert op.contenders[-1] == OURS
        assert {"eager, best", "compile, best"} < set(op.contenders)


def test_least_bytes():
    shape = (4, 8)  # 32 elements: 128 bytes in float32, 4 bytes of bits
    moved = {}
    for name in (
        "boundary_hinge_loss",
        "l1_discrepancy",
        "mixup",
        "pack_signs",
        "boundary_hinge_loss packed",
    ):
        problem = make_problem(Case(name, (shape,), "tiny"), "cpu")
        moved[name] = [OPS[name].moved(problem, mode) for mode in OPS[name].modes]
        assert OPS[name].moved(problem, GRAPH) == moved[name][-1]
    assert moved["boundary_hinge_loss"] == [256, 260, 260, 520]
    assert moved["boundary_hinge_loss packed"] == [132, 132, 260, 392]
    assert moved["l1_discrepancy"] == [256, 264, 136, 400]
    assert moved["mixup"] == [256, 256, 256, 512]
    assert moved["pack_signs"] == [132]
