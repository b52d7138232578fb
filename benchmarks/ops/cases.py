"""The shapes and dtypes with which the ops are measured."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from benchmarks.ops.problems import Case

HALVES = (torch.bfloat16, torch.float16)
IMAGES, LARGE_IMAGES = (256, 3, 32, 32), (64, 3, 224, 224)


def resnet_stages(batch: int) -> tuple[tuple[int, ...], ...]:
    """Feature shapes per stage of a CIFAR ResNet-18 or -34."""
    return ((batch, 64, 32, 32), (batch, 128, 16, 16), (batch, 256, 8, 8), (batch, 512, 4, 4))


def wrn_stages(batch: int) -> tuple[tuple[int, ...], ...]:
    """Feature shapes per stage of a CIFAR WRN-40-2."""
    return ((batch, 32, 32, 32), (batch, 64, 16, 16), (batch, 128, 8, 8))


def batch_norm_layers(batch: int) -> tuple[tuple[int, ...], ...]:
    """Input shapes of the batch norm layers of the ResNet-10 of width 16 for 28x28 images."""
    stem = ((batch, 16, 28, 28),) * 3
    return (*stem, *((batch, 32, 14, 14),) * 3, *((batch, 64, 7, 7),) * 3, *((batch, 128, 4, 4),) * 3)


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


def _normalizing_cases() -> list[Case]:
    op = "batch_norm_act"
    shapes = [(128, 8, 28, 28), (128, 16, 28, 28), (128, 16, 14, 14), (128, 32, 14, 14), (128, 64, 7, 7)]
    large = Case(op, ((128, 64, 32, 32),), "128x64x32x32")
    cases = [Case(op, (shape,), "x".join(map(str, shape))) for shape in shapes]
    return [replace(cases[0], quick=True, unpinned=True), *cases[1:], *_in_halves(large)]


def _statistics_cases() -> list[Case]:
    op = "batch_norm_statistics_loss"
    return [
        *_in_halves(Case(op, batch_norm_layers(128), "ResNet-10 layers, batch 128", quick=True)),
        Case(op, resnet_stages(64), "ResNet stages, batch 64"),
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


def _convolution_cases() -> list[Case]:
    """Layers of resnet10-w8 and -w16 at 28x28."""

    def layer(op: str, channels: int, out: int, kernel: int, side: int, **flags: Any) -> Case:
        shapes = (128, channels, side, side), (out, channels, kernel, kernel)
        return Case(op, shapes, f"{channels} to {out}, {kernel}x{kernel}, {side}x{side}, batch 128", **flags)

    plain, halving = "narrow_conv2d", "narrow_conv2d stride 2"
    return [
        layer(plain, 8, 8, 3, 28, quick=True),
        layer(plain, 16, 16, 3, 28),
        layer(plain, 16, 16, 3, 14),
        layer(plain, 32, 32, 3, 14),
        layer(plain, 64, 64, 3, 7),
        layer(halving, 8, 16, 3, 28),
        layer(halving, 16, 32, 3, 28),
        layer(halving, 8, 16, 1, 28),
    ]


CASES = (
    *_hinge_cases(),
    *_packed_cases(),
    *_l1_cases(),
    *_logits_cases("kl_discrepancy"),
    *_logits_cases("interpolated_l1"),
    *_normalizing_cases(),
    *_statistics_cases(),
    *_mixing_cases(),
    *_convolution_cases(),
)
