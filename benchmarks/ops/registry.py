"""The measured ops: their inputs, their contenders, and the minimum bytes that they move.

Byte counts are minima for an op that runs forward and backward as separate passes and touches every operand once per
pass. Losses read both sides. The hinge saves one bit per element; nothing else that is saved grows with the input, and
backward reads the inputs again. Gradients are written once. A mixture reads and writes each sample once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.measuring.results import OURS
from benchmarks.ops import contenders as c
from benchmarks.ops.problems import (
    Case,
    Problem,
    make_batch,
    make_convolution,
    make_halving_convolution,
    make_layers,
    make_mixed_pair,
    make_normalized,
    make_packed_stages,
    make_pair,
    make_stages,
    make_teacher,
)
from dfad_fast import ops

INFERENCE, FORWARD, BACKWARD, BOTH = "inference", "forward", "backward", "forward+backward"
MODES = (INFERENCE, FORWARD, BACKWARD, BOTH)
GRAPH = "all in a CUDA graph"  # forward, and backward if there is one; GPUs only


@dataclass(frozen=True)
class Op:
    """An op: its inputs, its contenders, the bytes that it must move, and the required accuracy."""

    make: Callable[[Case, torch.Generator], Problem]
    formulas: dict[str, c.Contender]
    ours: c.Contender
    forward_bytes: Callable[[Problem, bool], int]  # the flag: whether backward will follow
    backward_bytes: Callable[[Problem], int] | None
    rivals_tolerance: float = 1.0  # in units of RIVALS_TOLERANCE

    @property
    def contenders(self) -> tuple[str, ...]:
        """Names, ours last. The published form is not compiled, and the tuned one is not run in eager mode."""
        eager = [f"eager, {formula}" for formula in self.formulas if formula != "tuned"]
        compiled = [f"compile, {formula}" for formula in self.formulas if formula != "published"]
        return (*eager, *compiled, OURS)

    @property
    def modes(self) -> tuple[str, ...]:
        return MODES if self.backward_bytes else (INFERENCE,)

    def moved(self, problem: Problem, mode: str) -> int:
        """The minimum bytes that a call in this mode moves between memory and cores."""
        with_backward = mode in (BACKWARD, BOTH, GRAPH)
        backward = self.backward_bytes(problem) if with_backward and self.backward_bytes else 0
        forward = self.forward_bytes(problem, mode != INFERENCE) if mode != BACKWARD else 0
        return forward + backward


# Sum of absolute errors over the sum of absolute values, against the first formula in float64. Rounding flips the sign
# of a difference near 0, so single elements may be far off; the ops' tests check each element. Eager mode rounds at
# each step; in float16 its mse_loss even rounds 2 / n to that type, by 2.4 % for n = 2^22.
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 8e-3, torch.float16: 1e-3}
RIVALS_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 2e-2, torch.float16: 3e-2}


def tolerance(case: Case, contender: str) -> float:
    """The largest error with which a contender passes the check."""
    if contender == OURS:
        return TOLERANCE[case.dtype]
    return RIVALS_TOLERANCE[case.dtype] * OPS[case.op].rivals_tolerance


def _nbytes(tensors: Iterable[Tensor]) -> int:
    return sum(x.nbytes for x in tensors)


def _bits(tensors: Iterable[Tensor]) -> int:
    return sum((x.numel() + 7) // 8 for x in tensors)


def _sides(problem: Problem) -> int:
    return _nbytes(problem.arguments[:2])


def _stages_forward(problem: Problem, saving: bool) -> int:
    students, teachers = problem.arguments
    return _nbytes(students) + _nbytes(teachers) + (_bits(students) if saving else 0)


def _stages_backward(problem: Problem) -> int:
    return 2 * _nbytes(problem.leaves) + _bits(problem.leaves)


def _convolved(problem: Problem, saving: bool) -> int:
    return _nbytes(problem.leaves) + _nbytes(problem.grads)


def _convolved_backward(problem: Problem) -> int:
    return 2 * _nbytes(problem.leaves) + _nbytes(problem.grads)


OPS = {
    "boundary_hinge_loss": Op(
        make_stages,
        {"published": c.hinge_published, "best": c.hinge_best, "tuned": c.hinge_tuned},
        c.hinge_ours,
        _stages_forward,
        _stages_backward,
    ),
    "boundary_hinge_loss packed": Op(
        make_packed_stages,
        {"best": c.hinge_kept_best, "tuned": c.hinge_kept_tuned},
        c.hinge_kept_ours,
        lambda problem, saving: _nbytes(problem.leaves) + _bits(problem.leaves),
        _stages_backward,
    ),
    "pack_signs": Op(
        make_teacher,
        {"best": c.pack_signs_best},
        c.pack_signs_ours,
        lambda problem, saving: problem.arguments[0].nbytes + _bits(problem.arguments[:1]),
        None,
    ),
    "l1_discrepancy": Op(
        make_pair,
        {"best": c.l1_best},
        ops.l1_discrepancy,
        lambda problem, saving: _sides(problem) + 2 * saving * _bits(problem.leaves[:1]),
        lambda problem: 2 * _bits(problem.leaves[:1]) + _nbytes(problem.leaves),
    ),
    "kl_discrepancy": Op(
        make_pair,
        {"published": c.kl_published, "best": c.kl_best},
        c.kl_ours,
        lambda problem, saving: _sides(problem),
        lambda problem: _sides(problem) + _nbytes(problem.leaves),
        # Eager mode rounds log-probabilities, which are larger than their differences.
        rivals_tolerance=4,
    ),
    # Forward reads x twice, because it needs the statistics of the whole batch first. So does backward, for its sums.
    "batch_norm_act": Op(
        make_normalized,
        {"best": c.batch_norm_act_best},
        c.batch_norm_act_ours,
        lambda problem, saving: 4 * problem.leaves[0].nbytes,
        lambda problem: 7 * problem.leaves[0].nbytes,
    ),
    "batch_norm_statistics_loss": Op(
        make_layers,
        {"published": c.statistics_published, "best": c.statistics_best, "tuned": c.statistics_by_var_mean},
        ops.batch_norm_statistics_loss,
        lambda problem, saving: _nbytes(problem.leaves),
        lambda problem: 2 * _nbytes(problem.leaves),
    ),
    "mixup": Op(
        make_batch,
        {"published": c.mixup_published, "best": c.mixup_best},
        ops.mixup,
        lambda problem, saving: 2 * _nbytes(problem.leaves),
        lambda problem: 2 * _nbytes(problem.leaves),
    ),
    "virtual_batch": Op(
        make_batch,
        {"published": c.virtual_batch_published, "best": c.virtual_batch_best},
        ops.virtual_batch,
        lambda problem, saving: 2 * _nbytes(problem.leaves),
        lambda problem: 2 * _nbytes(problem.leaves),
    ),
    "interpolated_l1": Op(
        make_mixed_pair,
        {"published": c.interpolated_published, "best": c.interpolated_best},
        ops.interpolated_l1,
        lambda problem, saving: _sides(problem),
        lambda problem: _sides(problem) + _nbytes(problem.leaves),
    ),
    "narrow_conv2d": Op(
        make_convolution,
        {"best": c.convolution_best},
        c.convolution_ours,
        _convolved,
        _convolved_backward,
    ),
    "narrow_conv2d stride 2": Op(
        make_halving_convolution,
        {"best": c.halving_best},
        c.halving_ours,
        _convolved,
        _convolved_backward,
    ),
}
