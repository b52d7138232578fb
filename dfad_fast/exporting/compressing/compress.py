"""Compression of a student after distillation, without data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dfad_fast.errors import RunError, UsageError, unknown_name
from dfad_fast.exporting.compressing.layers import bound, layers_of, packed_bytes, weight_of
from dfad_fast.exporting.compressing.tuning import tune
from dfad_fast.settings import SEED, Limits

WAYS = ("pruned", "binary", "ternary")
SPARSITY = 0.8
_STEPS = Limits(least=0, most=10**9)


@dataclass(frozen=True)
class CompressionSettings:
    """How a student is compressed: ``how``; the fraction ``sparsity`` of a pruned one's weights that are 0, 0.8 where
    none is given; ``steps`` of tuning; and the ``seed`` of their order.

    Raises UsageError for an unknown word, values out of range, and a sparsity of weights that are not pruned.
    """

    how: str
    sparsity: float | None = None
    steps: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        if self.how not in WAYS:
            raise unknown_name("way to compress", self.how, WAYS)
        if self.sparsity is not None:
            if self.how != "pruned":
                raise UsageError(f"sparsity is for a pruned student, got {self.how}: leave it out")
            if not 0.0 < self.sparsity < 1.0:
                raise UsageError(f"sparsity must be more than 0 and less than 1, got {self.sparsity}")
        _STEPS.refuse("steps", self.steps)
        SEED.refuse("seed", self.seed)


@dataclass(frozen=True)
class Compression:
    """What a compression came to. ``before``, ``untuned`` and ``after`` are what was measured of the student as it
    came, with its weights bound, and at the end."""

    how: str
    steps: int
    images: int
    weights: int
    """Those of the layers that were compressed."""
    zeros: int
    """Those of them that are 0."""
    bytes: int
    """Of the student as it came: parameters and buffers."""
    packed_bytes: int
    """Of the student where it is stored as its weights allow. No file here does it."""
    before: dict[str, float]
    untuned: dict[str, float]
    after: dict[str, float]


def compress(
    student: nn.Module,
    images: Tensor,
    answers: Tensor,
    settings: CompressionSettings,
    measure: Callable[[nn.Module], dict[str, float]],
) -> Compression:
    """Compresses ``student`` itself and tunes it on ``images`` [N, C, H, W] and its teacher's ``answers`` to them,
    logits [N, classes].

    ``pruned``: the weights of the least magnitude, over all layers together, are 0 (Han et al. 2015, arXiv 1506.02626,
    in one step). ``binary`` and ``ternary``: see :mod:`dfad_fast.exporting.compressing.few_values`; activations, biases
    and norms stay as they are. Its layers and their parameters' names are what they were.

    ``measure`` is shown the student three times, in eval mode, in which it is left.

    Raises UsageError for fewer than 2 images, another number of answers, and layers that cannot be compressed; RunError
    where the tuned student is not finite.
    """
    if len(images) < 2:
        raise UsageError(f"a student is tuned on at least 2 images, got {len(images)}")
    if len(answers) != len(images):
        raise UsageError(f"an answer for each of {len(images)} images, got {len(answers)}")
    layers = layers_of(student, settings.how)
    size = sum(tensor.nbytes for tensor in student.state_dict().values())
    student.eval()
    before = _measured(measure, student)
    with bound(layers, settings.how, SPARSITY if settings.sparsity is None else settings.sparsity):
        untuned = _measured(measure, student)
        tune(student, images, answers, settings.steps, settings.seed)
    if not all(bool(tensor.isfinite().all()) for tensor in student.state_dict().values()):
        raise RunError(
            "the compressed student has weights that are not finite: give fewer steps, or leave compress out"
        )
    weights = [weight_of(layer) for layer in layers]
    return Compression(
        settings.how,
        settings.steps,
        len(images),
        sum(weight.numel() for weight in weights),
        sum(weight.numel() - int(weight.count_nonzero()) for weight in weights),
        size,
        packed_bytes(student, layers, settings.how),
        before,
        untuned,
        _measured(measure, student),
    )


@torch.no_grad()
def _measured(measure: Callable[[nn.Module], dict[str, float]], student: nn.Module) -> dict[str, float]:
    return measure(student)
