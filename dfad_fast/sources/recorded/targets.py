"""What images are to be like: features of the teacher's last layer, drawn as a record has them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dfad_fast.errors import unknown_name
from dfad_fast.sources.recorded.record import Record

DRAWS = ("clusters", "classes")


class Targets:
    """Draws features [B, D] of as many images of each class that the record has, in random order.

    ``classes``: of each feature by itself, by the mean and variance of its class (Lopes et al. 2017, arXiv 1710.07535).
    ``clusters``: of a cluster of the class, by its size, the centroid and a random step along each principal direction
    (Dream Distillation, Bhardwaj et al. 2019, arXiv 1905.07072). Where no recorded feature was negative, none is drawn.

    Raises UsageError for another word.
    """

    def __init__(self, record: Record, draws: str) -> None:
        if draws not in DRAWS:
            raise unknown_name("way to draw from a record", draws, DRAWS)
        self._record = record
        self._by_cluster = draws == "clusters"
        self._classes = np.flatnonzero(record.class_counts.numpy())

    def draw(self, rng: np.random.Generator, count: int) -> Tensor:
        """[count, D], float32 on the CPU."""
        places = rng.permutation(np.resize(rng.permutation(self._classes), count))
        drawn = self._of_clusters(rng, places) if self._by_cluster else self._of_classes(rng, places)
        return drawn.clamp_min(0.0) if self._record.about.nonnegative else drawn

    def _of_classes(self, rng: np.random.Generator, classes: np.ndarray) -> Tensor:
        means, deviations = self._record.class_means[classes], self._record.class_variances[classes].sqrt()
        noise = rng.standard_normal(tuple(means.shape), dtype=np.float32)
        return means + deviations * torch.from_numpy(noise)

    def _of_clusters(self, rng: np.random.Generator, classes: np.ndarray) -> Tensor:
        record = self._record
        owners, sizes = record.cluster_classes.numpy(), record.cluster_counts.numpy()
        chosen = np.empty(len(classes), dtype=np.int64)
        for label in self._classes:
            own = np.flatnonzero(owners == label)
            wanted = classes == label
            chosen[wanted] = rng.choice(own, wanted.sum(), p=sizes[own] / sizes[own].sum())
        deviations = record.deviations[chosen]
        noise = rng.standard_normal(tuple(deviations.shape), dtype=np.float32)
        steps = deviations * torch.from_numpy(noise)
        return record.cluster_means[chosen] + (steps[:, None] @ record.directions[chosen])[:, 0]
