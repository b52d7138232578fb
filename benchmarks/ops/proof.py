"""The correctness check of a contender: its outputs and gradients, and their error."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from benchmarks.ops.contenders import Contender
from benchmarks.ops.problems import SEED, Case, Problem
from benchmarks.ops.registry import OPS


def make_problem(case: Case, device: str) -> Problem:
    return OPS[case.op].make(case, torch.Generator(device).manual_seed(SEED))


def backward(outputs: Tensor | Sequence[Tensor], problem: Problem) -> tuple[Tensor, ...]:
    return torch.autograd.grad(outputs, problem.leaves, problem.grads)


def results(function: Contender, problem: Problem) -> list[Tensor]:
    """Outputs and gradients."""
    out = function(*problem.arguments)
    outputs = (out,) if isinstance(out, Tensor) else tuple(out)
    gradients = backward(outputs, problem) if problem.leaves else ()
    return [x.detach() for x in (*outputs, *gradients)]


def relative_error(got: Tensor, want: Tensor) -> float:
    """Sum of absolute errors over the sum of absolute values; infinite if shapes or NaNs differ."""
    if got.shape != want.shape:
        return float("inf")
    error, scale = 0.0, 0.0
    # In parts, because a float64 copy of a large result would not fit in memory next to the other contenders.
    for g, w in zip(got.reshape(-1).split(2**22), want.reshape(-1).split(2**22), strict=True):
        g, w = g.double(), w.double()
        if not torch.equal(g.isfinite(), w.isfinite()):
            return float("inf")
        error += (g - w).nan_to_num(0, 0, 0).abs().sum().item()
        scale += w.nan_to_num(0, 0, 0).abs().sum().item()
    return error / scale if scale else (0.0 if error == 0 else float("inf"))
