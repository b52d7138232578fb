"""A record taken of a teacher on images: once through the network, then clusters and their principal directions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dfad_fast.checksum import checksum
from dfad_fast.errors import UsageError
from dfad_fast.models.loading.programs import is_opaque
from dfad_fast.models.reading.answers import find_logits
from dfad_fast.models.reading.check import example_images, modes_of, set_modes
from dfad_fast.models.reading.last_layer import find_last_layer, record_last_features
from dfad_fast.models.reading.taps import Taps, find_taps
from dfad_fast.ops import channel_statistics
from dfad_fast.precision import at_least_float32
from dfad_fast.sources.recorded.record import About, Record

_ROUNDS = 50


@dataclass(frozen=True)
class Detail:
    """How detailed a record is.

    Attributes:
        clusters: of each class, at most.
        directions: principal directions of each cluster, at most.
        least: images that a class or a cluster has at least, so that no mean is that of a few; a class of fewer is left
            out.
    """

    clusters: int = 4
    directions: int = 8
    least: int = 16

    def __post_init__(self) -> None:
        for name, least in (("clusters", 1), ("directions", 1), ("least", 3)):
            if getattr(self, name) < least:
                raise UsageError(f"{name} must be at least {least}, got {getattr(self, name)}")


@torch.no_grad()
def measure_record(
    teacher: nn.Module,
    image_shape: tuple[int, int, int],
    batches: Iterable[Tensor],
    detail: Detail = Detail(),
    seed: int = 0,
) -> Record:
    """The record of ``teacher`` on ``batches`` of its images [B, C, H, W], normalized, where the teacher is.

    A class is what the teacher answers, so that no labels are needed. ``seed`` fixes where clusters begin. The teacher
    is left in its modes.

    Raises UsageError where it ends in no linear layer, where no class has enough images, or features are not finite.
    """
    modes = modes_of(teacher)
    try:
        example = example_images(teacher, image_shape)
        path = find_last_layer(teacher, example)
        taps = [] if is_opaque(teacher) else find_taps(teacher, example)
        features, logits, layers = _look(teacher, path, Taps(teacher, taps), batches)
    finally:
        set_modes(modes)
    if not bool(features.isfinite().all()):
        raise UsageError(
            "the teacher's features of these images are not finite: check its weights and the images"
        )
    about = About(
        checksum(teacher.state_dict()),
        image_shape,
        path,
        tuple(map(str, taps)),
        len(features),
        bool((features >= 0).all()),
    )
    return _summed_up(about, features, logits, layers, detail, torch.Generator().manual_seed(seed))


def _look(
    teacher: nn.Module, path: str, taps: Taps, batches: Iterable[Tensor]
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Features [M, D] and logits [M, K] of all images, on the CPU, and each stage's statistics [2, C]."""
    features: list[Tensor] = []
    logits: list[Tensor] = []
    moments = [torch.zeros(2, tap.shape[0], dtype=torch.float64) for tap in taps.taps]
    for images in batches:
        with record_last_features(teacher, path) as last, taps.record() as stages:
            answer = find_logits(teacher(images), len(images))
        assert answer is not None  # else the network has been refused before
        features.append(at_least_float32(last[0]).float().cpu())
        logits.append(answer.float().cpu())
        for sums, stage in zip(moments, stages, strict=True):
            mean, variance = channel_statistics(at_least_float32(stage)).double().cpu()
            sums += len(images) * torch.stack((mean, variance + mean.square()))
    count = sum(map(len, features))
    means = [sums / count for sums in moments]
    layers = [torch.stack((mean, square - mean.square())).float() for mean, square in means]
    return torch.cat(features), torch.cat(logits), layers


def _summed_up(
    about: About,
    features: Tensor,
    logits: Tensor,
    layers: list[Tensor],
    detail: Detail,
    rng: torch.Generator,
) -> Record:
    answers, classes = logits.argmax(1), logits.shape[1]
    means = torch.zeros(classes, features.shape[1])
    variances, counts = torch.zeros_like(means), torch.zeros(classes, dtype=torch.int64)
    clusters: list[tuple[int, Tensor]] = []
    for label in range(classes):
        own = features[answers == label]
        if len(own) < detail.least:
            continue
        counts[label] = len(own)
        variances[label], means[label] = torch.var_mean(own, 0, correction=0)
        clusters += [(label, part) for part in _clusters(own, detail, rng)]
    if not clusters:
        raise UsageError(
            f"the teacher puts fewer than {detail.least} of these {len(features):,} images into each class: give more "
            "images"
        )
    width = min(detail.directions, detail.least - 1, features.shape[1])
    lines = [_principal(part, width) for _, part in clusters]
    return Record(
        about,
        means,
        variances,
        counts,
        torch.tensor([label for label, _ in clusters]),
        torch.tensor([len(part) for _, part in clusters]),
        torch.stack([part.mean(0) for _, part in clusters]),
        torch.stack([directions for directions, _ in lines]),
        torch.stack([deviations for _, deviations in lines]),
        layers,
    )


def _clusters(features: Tensor, detail: Detail, rng: torch.Generator) -> list[Tensor]:
    """The features [M, D] of a class in parts of at least so many, by k-means with as many centers as allow that.

    Each image is in one of them: the difference between the class's sum and the parts' would tell of those left out.
    """
    for count in range(min(detail.clusters, len(features) // (2 * detail.least)), 1, -1):
        parts = _k_means(features, count, rng)
        if all(len(part) >= detail.least for part in parts):
            return parts
    return [features]


def _k_means(features: Tensor, count: int, rng: torch.Generator) -> list[Tensor]:
    centers = features[torch.randperm(len(features), generator=rng)[:count]]
    for _ in range(_ROUNDS):
        nearest = torch.cdist(features, centers).argmin(1)
        parts = [features[nearest == i] for i in range(count)]
        moved = torch.stack(
            [part.mean(0) if len(part) else old for part, old in zip(parts, centers, strict=True)]
        )
        if torch.equal(moved, centers):
            break
        centers = moved
    return parts


def _principal(features: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Directions [count, D] of norm 1 along which ``features`` [M, D] vary most, and their deviations there [count]."""
    _, values, directions = torch.linalg.svd(features - features.mean(0), full_matrices=False)
    return directions[:count], values[:count] / len(features) ** 0.5
