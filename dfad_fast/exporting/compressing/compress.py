"""Compression of a student after distillation, without data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dfad_fast.errors import RunError, UsageError, first_line, unknown_name
from dfad_fast.exporting.compressing.layers import bound, layers_of, packed_bytes, weight_of
from dfad_fast.exporting.compressing.tuning import tune
from dfad_fast.settings import SEED, Limits

WAYS = ("pruned", "binary", "ternary")
SPARSITY = 0.8
_STEPS = Limits(least=0, most=10**9)


@dataclass(frozen=True)
class CompressionSettings:
    """How a student is compressed.

    ``sparsity`` is the fraction of zeros among the weights of a pruned student, 0.8 by default. ``steps`` is the number
    of tuning steps, and ``seed`` fixes the order of their images.

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
    """The result of a compression.

    ``before``, ``untuned`` and ``after`` hold the measurements of the original student, of the compressed student
    before tuning, and of the final one.
    """

    how: str
    steps: int
    images: int
    weights: int
    """Weights in the compressed layers."""
    zeros: int
    """How many of these are 0."""
    bytes: int
    """Size of the original student: parameters and buffers."""
    packed_bytes: int
    """Size of the student in the most compact form that its weights allow. No exported file uses that form."""
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
    """Compresses ``student`` in place and tunes it.

    ``pruned`` sets the weights of the smallest magnitude, over all layers together, to 0 (Han et al. 2015, in one
    step, arXiv 1506.02626). For ``binary`` and ``ternary`` see :mod:`dfad_fast.exporting.compressing.few_values`;
    activations, biases and norms do not change. Neither do the layers and the names of their parameters.

    Args:
        student: the network, left in eval mode.
        images: [N, C, H, W], to tune on.
        answers: the teacher's logits [N, classes] for them.
        settings: how to compress.
        measure: called three times with the student in eval mode.

    Returns:
        What was compressed, and the measurements.

    Raises:
        UsageError: fewer than 2 images, another number of answers, no parameter to tune, or layers that cannot be
            compressed.
        RunError: the student fails in training, or has weights that are not finite.
    """
    if len(images) < 2:
        raise UsageError(f"a student is tuned on at least 2 images, got {len(images)}")
    if len(answers) != len(images):
        raise UsageError(f"expected an answer for each of {len(images)} images, got {len(answers)}")
    layers = layers_of(student, settings.how)
    if settings.steps and not any(parameter.requires_grad for parameter in student.parameters()):
        raise UsageError("no parameter of the student requires a gradient: call student.requires_grad_()")
    if not _weights_are_finite(student):
        raise RunError("the student has weights that are not finite: compress another student of the run")
    size = sum(tensor.nbytes for tensor in student.state_dict().values())
    student.eval()
    before = _measured(measure, student)
    with bound(layers, settings.how, SPARSITY if settings.sparsity is None else settings.sparsity):
        untuned = _measured(measure, student)
        try:
            tune(student, images, answers, settings.steps, settings.seed)
        except Exception as error:
            raise RunError(f"the student failed while it was tuned: {first_line(error, 300)}") from error
    if not _weights_are_finite(student):
        raise RunError(
            "the compressed student has weights that are not finite: use fewer tuning steps, or do not compress it"
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


def _weights_are_finite(student: nn.Module) -> bool:
    return all(bool(parameter.isfinite().all()) for parameter in student.parameters())


@torch.no_grad()
def _measured(measure: Callable[[nn.Module], dict[str, float]], student: nn.Module) -> dict[str, float]:
    return measure(student)
