"""Which drawings are most like the data: those whose statistics at the teacher's first batch norm layers are nearest to
what the teacher remembers of its data there."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import torch
from torch import Tensor

from dfad_fast.distributed import collectives
from dfad_fast.models.reading.batch_norm import LayerStatistics, batch_norm_layers, record_statistics
from dfad_fast.models.reading.check import image_dtype
from dfad_fast.networks.probing import Prober
from dfad_fast.sources.form import ImageForm
from dfad_fast.sources.procedural.drawing import SURROUNDS, Drawing, evenly

_LAYERS = 4
"""So many of the teacher's first batch norm layers are asked: later ones see more in images than drawings have."""
_CONTRASTS = (0.6, 1.0, 1.6)
_PIXELS = 64 * 64 * 64
"""Pixels of the images that a candidate is judged by, 16 to 64 of them."""
_ALIKE = 0.4
"""The part of all images that is shared out evenly among the kinds: a student has to see what varies."""
_PARTS = 10
"""The rest is shared out in so many parts."""


def choose_drawing(
    kinds: tuple[str, ...], surround: str, prober: Prober, form: ImageForm, seed: int
) -> Drawing:
    """The kinds with their shares, in what contrast, and the surround where it is ``auto``.

    Each kind is drawn with each surround in each contrast, and shown to the teacher once; what mixtures of kinds would
    have follows from that. A teacher without batch norm layers has nothing to choose by: then the shares are equal, and
    ``auto`` is no surround.
    """
    surrounds = list(SURROUNDS) if surround == "auto" else [surround]
    if not batch_norm_layers(prober.trio.teacher):
        return Drawing(evenly(kinds), "none" if surround == "auto" else surround)
    mixtures = torch.tensor(_mixtures(len(kinds)), device=prober.device)
    found = []
    for name, contrast in product(surrounds, _CONTRASTS):
        drawings = [Drawing({kind: 1.0}, name, contrast) for kind in kinds]
        seen = [_statistics(drawing, prober, form, seed) for drawing in drawings]
        distances = _distances(seen, mixtures)
        nearest = int(distances.argmin())
        found.append((float(distances[nearest]), name, contrast, mixtures[nearest].tolist()))
    _, name, contrast, shares = min(found)
    rounded = {kind: round(share, 4) for kind, share in zip(kinds, shares, strict=True)}
    best = Drawing(rounded, name, contrast, chosen=True)
    # Each process has come to the same, but for rounding.
    return collectives.collect(best)[0]


def _mixtures(kinds: int) -> list[list[float]]:
    """All shares of so many kinds, in parts of which each has a few to begin with."""
    return [
        [_ALIKE / kinds + (1 - _ALIKE) * own / _PARTS for own in parts]
        for parts in product(range(_PARTS + 1), repeat=kinds)
        if sum(parts) == _PARTS
    ]


def _statistics(drawing: Drawing, prober: Prober, form: ImageForm, seed: int) -> list[LayerStatistics]:
    """What images of it have at the teacher's first batch norm layers."""
    _, height, width = form.shape
    count = min(max(_PIXELS // (height * width), 16), 64)
    # The same seed for all candidates: they differ in nothing else.
    pixels = drawing.draw(np.random.default_rng([seed, 20]), count, form.shape)
    images = form.normalize(pixels).to(prober.device, image_dtype(prober.trio.teacher))
    prober.trio.teacher.eval()
    with record_statistics(prober.trio.teacher) as statistics:
        prober.asker(graph=False, statistics=True, hooked=True)(images)
    return statistics[:_LAYERS]


def _distances(seen: Sequence[Sequence[LayerStatistics]], mixtures: Tensor) -> Tensor:
    """[M]: how far the statistics of each of the ``mixtures`` [M, K] are from the running ones, relative to these,
    summed over the layers. ``seen`` are those of the K parts, which the mixtures' follow from."""
    norm = torch.linalg.vector_norm
    total = torch.zeros(len(mixtures), device=mixtures.device)
    for layers in zip(*seen, strict=True):
        means = torch.stack([layer.mean for layer in layers])
        running = layers[0].running_mean.to(means.dtype)
        expected = layers[0].running_variance.to(means.dtype)
        squares = torch.stack([layer.variance for layer in layers]) + means.square()
        mean = mixtures.to(means.dtype) @ means
        variance = mixtures.to(means.dtype) @ squares - mean.square()
        total += norm(mean - running, dim=1) / expected.sum().sqrt().clamp_min(1e-12)
        total += norm(variance - expected, dim=1) / norm(expected).clamp_min(1e-12)
    return total
