"""Cases of the ops and their inputs."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from dfad_fast import ops

# Half-precision gradients of a mean over millions of elements underflow unless the loss is scaled, as in training.
LOSS_SCALE = {torch.float16: 2.0**15}
SEED = 0


@dataclass(frozen=True)
class Case:
    """One op on one set of shapes.

    Attributes:
        op: a name in :data:`benchmarks.ops.registry.OPS`.
        shapes: the shapes that the op takes: one per stage, one of logits, or images and labels.
        label: readable form of the shapes.
        dtype: dtype of every floating-point input except lam.
        both_sides: whether the teacher's side gets gradients, too.
        quick: whether the case is part of ``--quick``.
        unpinned: whether it is also measured with the C library's default allocator.
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
    """A case's inputs: the contenders' arguments, the arguments that need gradients, and the outputs' gradients."""

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


def make_normalized(case: Case, generator: torch.Generator) -> Problem:
    """Features of a batch norm and the residual after it, in the memory layout of training on a CPU."""
    (shape,) = case.shapes
    x, residual = (
        _randn(shape, case, generator).to(memory_format=torch.channels_last).requires_grad_()
        for _ in range(2)
    )
    weight, bias = (_randn(shape[1:2], case, generator, grad=True) for _ in range(2))
    grad = torch.randn(shape, generator=generator, device=generator.device)
    grad = grad.to(case.dtype, memory_format=torch.channels_last)
    return Problem((x, residual, weight, bias), (x, residual, weight, bias), (grad,))


def make_layers(case: Case, generator: torch.Generator) -> Problem:
    """Inputs of batch norm layers, in the memory layout of training on a CPU, and their running statistics."""
    features = [
        (2 * torch.randn(shape, generator=generator, device=generator.device) + 0.5)
        .to(case.dtype, memory_format=torch.channels_last)
        .requires_grad_()
        for shape in case.shapes
    ]
    means = [_randn(shape[1:2], case, generator) for shape in case.shapes]
    variances = [_randn(shape[1:2], case, generator).square() for shape in case.shapes]
    return Problem((features, means, variances), tuple(features), _loss_grad(case, generator))


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


def _make_convolution(case: Case, generator: torch.Generator, stride: int) -> Problem:
    (batch, _, height, width), (out, *_) = case.shapes
    x = _randn(case.shapes[0], case, generator).contiguous(memory_format=torch.channels_last).requires_grad_()
    weight = _randn(case.shapes[1], case, generator, grad=True)
    grad = _randn((batch, out, -(-height // stride), -(-width // stride)), case, generator)
    grads = (grad.contiguous(memory_format=torch.channels_last),)
    return Problem((x, weight), (x, weight), grads)


def make_convolution(case: Case, generator: torch.Generator) -> Problem:
    return _make_convolution(case, generator, stride=1)


def make_halving_convolution(case: Case, generator: torch.Generator) -> Problem:
    return _make_convolution(case, generator, stride=2)


def make_batch(case: Case, generator: torch.Generator) -> Problem:
    tensors = tuple(_randn(shape, case, generator, grad=True) for shape in case.shapes)
    grads = tuple(_randn(shape, case, generator) for shape in case.shapes)
    return Problem((*tensors, *_mixing(case.shapes[0][0], generator)), tensors, grads)
