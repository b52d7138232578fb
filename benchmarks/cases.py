"""The one registry of what is measured: ops, their inputs, their shapes, the bytes they cannot help moving.

Byte counts are minima for an op that runs forward and backward as separate passes and touches every operand once a
pass: losses read both sides; what is saved is one bit per element for the hinge and nothing else that grows with the
input (backward reads the inputs again); gradients are written once. A mixture reads and writes each sample once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from benchmarks import contenders as c
from dfad_fast import ops

INFERENCE, FORWARD, BACKWARD, BOTH = "inference", "forward", "backward", "forward+backward"
MODES = (INFERENCE, FORWARD, BACKWARD, BOTH)
GRAPH = "all in a CUDA graph"  # forward, and backward where there is one; GPUs only
# Half-precision gradients of a mean over millions underflow unless the loss is scaled, as in training.
LOSS_SCALE = {torch.float16: 2.0**15}


@dataclass(frozen=True)
class Case:
    """One op on one set of shapes.

    Attributes:
        op: a name in :data:`OPS`.
        shapes: the op's own: one per stage, one of logits, or images and labels.
        label: the shapes for people.
        dtype: of every floating-point input, except lam.
        both_sides: gradients to the teacher's side too.
        quick: part of ``--quick``.
        unpinned: measured with the C library's default allocator too.
    """

    op: str
    shapes: tuple[tuple[int, ...], ...]
    label: str
    dtype: torch.dtype = torch.float32
    both_sides: bool = False
    quick: bool = False
    unpinned: bool = False

    @property
    def dtype_name(self) -> str:
        return str(self.dtype).removeprefix("torch.")

    @property
    def name(self) -> str:
        sides = " both sides" if self.both_sides else ""
        return f"{self.op}{sides} {self.label} {self.dtype_name}"

    @property
    def elements(self) -> int:
        return sum(math.prod(shape) for shape in self.shapes)


@dataclass(frozen=True)
class Problem:
    """A case's inputs: the contenders' arguments, those among them that want gradients, the outputs' gradients."""

    arguments: tuple[Any, ...]
    leaves: tuple[Tensor, ...] = ()
    grads: tuple[Tensor, ...] = ()

    def to(self, dtype: torch.dtype) -> Problem:
        """The same numbers in another floating-point dtype."""
        seen: dict[int, Tensor] = {}

        def convert(x: Any) -> Any:
            if not (isinstance(x, Tensor) and x.is_floating_point()):
                return x
            if id(x) not in seen:
                seen[id(x)] = x.detach().to(dtype).requires_grad_(x.requires_grad)
            return seen[id(x)]

        return Problem(
            *(pytree.tree_map(convert, part) for part in (self.arguments, self.leaves, self.grads))
        )


@dataclass(frozen=True)
class Op:
    """An op: how its inputs are made, what competes for it, what it must move, how exact a contender has to be."""

    make: Callable[[Case, torch.Generator], Problem]
    formulas: dict[str, c.Contender]
    ours: c.Contender
    forward_bytes: Callable[[Problem, bool], int]  # the flag: whether gradients will be wanted
    backward_bytes: Callable[[Problem], int] | None
    rivals_tolerance: float = 1.0  # in units of RIVALS_TOLERANCE

    @property
    def contenders(self) -> tuple[str, ...]:
        """Their names, ours last. The published form is not compiled, nor the tuned one run in eager mode."""
        eager = [f"eager, {formula}" for formula in self.formulas if formula != "tuned"]
        compiled = [f"compile, {formula}" for formula in self.formulas if formula != "published"]
        return (*eager, *compiled, c.OURS)

    @property
    def modes(self) -> tuple[str, ...]:
        return MODES if self.backward_bytes else (INFERENCE,)

    def moved(self, problem: Problem, mode: str) -> int:
        """The least bytes that a call in this mode moves between memory and the cores."""
        with_backward = mode in (BACKWARD, BOTH, GRAPH)
        backward = self.backward_bytes(problem) if with_backward and self.backward_bytes else 0
        forward = self.forward_bytes(problem, mode != INFERENCE) if mode != BACKWARD else 0
        return forward + backward


# Sum of absolute errors over the sum of absolute values, against the first formula in float64. Rounding flips the sign
# of a difference near 0, so single elements may be far off; the tests of the ops look at every one. Eager mode rounds
# at each step; in float16 its mse_loss even rounds 2 / n to that type, by 2.4 % for n = 2^22.
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 8e-3, torch.float16: 1e-3}
RIVALS_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 2e-2, torch.float16: 3e-2}


def tolerance(case: Case, contender: str) -> float:
    """The error up to which a contender passes the gate."""
    if contender == c.OURS:
        return TOLERANCE[case.dtype]
    return RIVALS_TOLERANCE[case.dtype] * OPS[case.op].rivals_tolerance


def _randn(shape: tuple[int, ...], case: Case, generator: torch.Generator, grad: bool = False) -> Tensor:
    x = torch.randn(shape, generator=generator, device=generator.device)
    return x.to(case.dtype).requires_grad_(grad)


def _loss_grad(case: Case, generator: torch.Generator) -> tuple[Tensor]:
    return (torch.tensor(LOSS_SCALE.get(case.dtype, 1.0), dtype=case.dtype, device=generator.device),)


def _mixing(batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    device = generator.device
    perm = torch.randperm(batch, generator=generator, device=device)
    return torch.rand(batch, generator=generator, device=device), perm


def make_stages(case: Case, generator: torch.Generator) -> Problem:
    students = [_randn(shape, case, generator, grad=True) for shape in case.shapes]
    teachers = [_randn(shape, case, generator) for shape in case.shapes]
    return Problem((students, teachers), tuple(students), _loss_grad(case, generator))


def make_packed_stages(case: Case, generator: torch.Generator) -> Problem:
    stages = make_stages(case, generator)
    students, teachers = stages.arguments
    masks, packed = [t <= 0 for t in teachers], [ops.pack_signs(t) for t in teachers]
    towards = [torch.where(mask, 1, -1).to(torch.int8) for mask in masks]
    return replace(stages, arguments=(students, masks, towards, packed))


def make_teacher(case: Case, generator: torch.Generator) -> Problem:
    places = torch.tensor([1, 2, 4, 8, 16, 32, 64, 128], dtype=torch.uint8, device=generator.device)
    return Problem((_randn(case.shapes[0], case, generator), places))


def make_pair(case: Case, generator: torch.Generator) -> Problem:
    student = _randn(case.shapes[0], case, generator, grad=True)
    teacher = _randn(case.shapes[0], case, generator, grad=case.both_sides)
    leaves = (student, teacher) if case.both_sides else (student,)
    return Problem((student, teacher), leaves, _loss_grad(case, generator))


def make_mixed_pair(case: Case, generator: torch.Generator) -> Problem:
    pair = make_pair(case, generator)
    return replace(pair, arguments=(*pair.arguments, *_mixing(case.shapes[0][0], generator)))


def make_batch(case: Case, generator: torch.Generator) -> Problem:
    tensors = tuple(_randn(shape, case, generator, grad=True) for shape in case.shapes)
    grads = tuple(_randn(shape, case, generator) for shape in case.shapes)
    return Problem((*tensors, *_mixing(case.shapes[0][0], generator)), tensors, grads)


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
        lambda problem, saving: _sides(problem),
        lambda problem: _sides(problem) + _nbytes(problem.leaves),
    ),
    "kl_discrepancy": Op(
        make_pair,
        {"published": c.kl_published, "best": c.kl_best},
        c.kl_ours,
        lambda problem, saving: _sides(problem),
        lambda problem: _sides(problem) + _nbytes(problem.leaves),
        # Eager mode rounds logarithms of probabilities, which are larger than their differences.
        rivals_tolerance=4,
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
}

HALVES = (torch.bfloat16, torch.float16)
IMAGES, LARGE_IMAGES = (256, 3, 32, 32), (64, 3, 224, 224)


def resnet_stages(batch: int) -> tuple[tuple[int, ...], ...]:
    """What a CIFAR ResNet-18 or -34 gives per stage."""
    return ((batch, 64, 32, 32), (batch, 128, 16, 16), (batch, 256, 8, 8), (batch, 512, 4, 4))


def wrn_stages(batch: int) -> tuple[tuple[int, ...], ...]:
    """What a CIFAR WRN-40-2 gives per stage."""
    return ((batch, 32, 32, 32), (batch, 64, 16, 16), (batch, 128, 8, 8))


def _in_halves(case: Case) -> list[Case]:
    return [case, *(replace(case, dtype=dtype, quick=False, unpinned=False) for dtype in HALVES)]


def _logits(op: str, *shape: int, **flags: Any) -> Case:
    return Case(op, (shape,), str(list(shape)), **flags)


def _flat(op: str, power: int, **flags: Any) -> Case:
    return Case(op, ((2**power,),), f"2^{power}", **flags)


def _hinge_cases() -> list[Case]:
    op, stage = "boundary_hinge_loss", resnet_stages(64)[:1]
    return [
        _logits(op, 1, 10),
        _logits(op, 256, 100),
        *_in_halves(Case(op, stage, "stage 64x64x32x32", quick=True, unpinned=True)),
        *_in_halves(Case(op, resnet_stages(64), "ResNet stages, batch 64", quick=True)),
        Case(op, wrn_stages(256), "WRN-40-2 stages, batch 256"),
        Case(op, resnet_stages(256), "ResNet stages, batch 256"),
        _flat(op, 26),
    ]


def _packed_cases() -> list[Case]:
    stages = Case("boundary_hinge_loss packed", resnet_stages(64), "ResNet stages, batch 64", quick=True)
    stage = Case("pack_signs", resnet_stages(64)[:1], "stage 64x64x32x32")
    return [
        stages,
        replace(stages, dtype=torch.bfloat16, quick=False),
        stage,
        replace(stage, dtype=torch.bfloat16),
    ]


def _l1_cases() -> list[Case]:
    op = "l1_discrepancy"
    return [
        _logits(op, 1, 10),
        _logits(op, 256, 10, quick=True),
        _logits(op, 256, 100),
        _logits(op, 256, 100, both_sides=True),
        _logits(op, 256, 1000),
        _flat(op, 20, quick=True, unpinned=True),
        *_in_halves(_flat(op, 22)),
        _flat(op, 22, both_sides=True),
        _flat(op, 26),
    ]


def _logits_cases(op: str) -> list[Case]:
    return [
        _logits(op, 1, 10),
        _logits(op, 256, 10),
        _logits(op, 256, 100, quick=True),
        _logits(op, 256, 100, both_sides=True),
        _logits(op, 256, 1000),
        *_in_halves(_logits(op, 8192, 1000)),
    ]


def _mixing_cases() -> list[Case]:
    small, large = "256x3x32x32", "64x3x224x224"
    return [
        Case("mixup", ((1, 10),), "[1, 10]"),
        Case("mixup", (IMAGES,), small),
        Case("mixup", (LARGE_IMAGES,), large),
        *_in_halves(
            Case("virtual_batch", (IMAGES, (256, 100)), f"{small} + 256x100", quick=True, unpinned=True)
        ),
        Case("virtual_batch", (LARGE_IMAGES, (64, 1000)), f"{large} + 64x1000"),
    ]


CASES = (
    *_hinge_cases(),
    *_packed_cases(),
    *_l1_cases(),
    *_logits_cases("kl_discrepancy"),
    *_logits_cases("interpolated_l1"),
    *_mixing_cases(),
)
