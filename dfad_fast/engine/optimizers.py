"""The optimizers of a run."""

from __future__ import annotations

import torch

from dfad_fast.engine.recipe import Recipe, can_fuse
from dfad_fast.models.reading.check import device_of
from dfad_fast.networks.levers import Levers
from dfad_fast.networks.optimizers import ScaledOptimizer
from dfad_fast.networks.trio import Trio


def optimizers_of(
    trio: Trio, recipe: Recipe, levers: Levers, clip_norm: float | None
) -> tuple[ScaledOptimizer, ScaledOptimizer]:
    """The student's optimizer, which also trains the modules beside the student, and the generator's.

    Modules of terms with a rate of their own have optimizers of their own, which step with the student's.
    """
    device, scaled, captured = device_of(trio.student), levers.precision == "float16", levers.graph
    apart = [(list(module.parameters()), rate) for module, rate in trio.trained_apart]
    beside = [
        torch.optim.Adam(own, lr=rate, fused=can_fuse(own), capturable=captured) for own, rate in apart if own
    ]
    left_out = {p for own, _ in apart for p in own}
    modules = trio.student, *trio.beside_student
    trained = [p for module in modules for p in module.parameters() if p not in left_out]
    generated = list(trio.generator.parameters())
    return (
        ScaledOptimizer(recipe.student(trained, captured), device, scaled, clip_norm, beside),
        ScaledOptimizer(recipe.generator(generated, captured), device, scaled, clip_norm),
    )
