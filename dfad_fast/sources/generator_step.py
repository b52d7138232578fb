"""A generator's step, in which teacher and student do not change."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from torch import Tensor

from dfad_fast.distributed import collectives
from dfad_fast.networks.probing import frozen
from dfad_fast.sources.source import Plan, StepLosses, Workbench

T = TypeVar("T")


def take_generator_step(
    bench: Workbench, plan: Plan, compute: Callable[[], tuple[Tensor, StepLosses, T]]
) -> tuple[StepLosses, T]:
    """Takes a step of the generator's optimizer on the first result of ``compute``, and returns the others."""
    trio, train, optimizer = bench.prober.trio, plan.trains_student_norms, bench.optimizer
    assert optimizer is not None
    trio.set_modes(student=train)
    if not (train or trio.sync_batch_norm):
        # Each process saw its own part of the batches, but the student must be the same in all.
        collectives.copy_buffers_from_first(trio.student, *trio.beside_student)
    with frozen(trio.teacher, trio.student, *trio.beside_student):
        total, losses, made = compute()
        # Frozen during backward too: a network that checkpoints its activations runs again there.
        optimizer.descend(total)
    return losses, made
