"""Chooses the drawings that are most similar to the teacher's data.

Their statistics at its first batch norm layers are closest to the running ones, or its answers are the most certain and
varied.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from dfad_fast.distributed import collectives
from dfad_fast.models.black_box import is_black_box
from dfad_fast.models.reading.batch_norm import LayerStatistics, batch_norm_layers, record_statistics
from dfad_fast.models.reading.check import image_dtype
from dfad_fast.networks.probing import Prober
from dfad_fast.sources.form import ImageForm
from dfad_fast.sources.procedural.drawing import SURROUNDS, Drawing, evenly

_LAYERS = 4
"""How many of the teacher's first batch norm layers are used: later ones see more than drawings contain."""
_CONTRASTS = (0.6, 1.0, 1.6)
_PIXELS = 64 * 64 * 64
"""The number of pixels in the 16 to 64 images that judge a candidate."""
_ALIKE = 0.4
"""The fraction of images divided equally among the kinds, because a student needs variety."""
_PARTS = 10
"""The remaining images are distributed in this many parts."""
_TELLS_APART = 1e-4
"""If all surrounds and contrasts are as close as that, the teacher does not distinguish them."""
_CHOSEN: WeakKeyDictionary[Prober, dict[tuple[tuple[str, ...], str], Drawing]] = WeakKeyDictionary()
"""The choices of each run: the start of the student and all parts of a mixture draw alike."""


def choose_drawing(
    kinds: tuple[str, ...], surround: str, prober: Prober, form: ImageForm, seed: int
) -> Drawing:
    """Chooses the kinds' shares, the contrast and, for ``auto``, the surround, once in a run.

    Draws each kind with each surround in each contrast and runs the teacher on it once; what it would say of mixtures
    follows from these. A teacher with batch norm layers decides by their statistics, another one by its answers. A
    black-box teacher is not asked: the shares are equal, and ``auto`` means no surround.
    """
    chosen = _CHOSEN.setdefault(prober, {})
    if (kinds, surround) not in chosen:
        # The processes' results differ only by rounding.
        chosen[kinds, surround] = collectives.collect(_best(kinds, surround, prober, form, seed))[0]
    return chosen[kinds, surround]


def _best(kinds: tuple[str, ...], surround: str, prober: Prober, form: ImageForm, seed: int) -> Drawing:
    surrounds = list(SURROUNDS) if surround == "auto" else [surround]
    teacher = prober.trio.teacher
    even = Drawing(evenly(kinds), "none" if surround == "auto" else surround)
    if is_black_box(teacher):
        return even
    distances = _by_statistics if batch_norm_layers(teacher) else _by_answers
    mixtures = torch.tensor(_mixtures(len(kinds)), device=prober.device)
    found = []
    for name, contrast in product(surrounds, _CONTRASTS):
        images = [_images(Drawing({kind: 1.0}, name, contrast), prober, form, seed) for kind in kinds]
        far = distances(images, mixtures, prober)
        nearest = int(far.argmin())
        found.append((float(far[nearest]), name, contrast, mixtures[nearest].tolist()))
    (nearest_of_all, name, contrast, shares), farthest = min(found), max(found)[0]
    if not farthest - nearest_of_all > _TELLS_APART:
        return even
    rounded = {kind: round(share, 4) for kind, share in zip(kinds, shares, strict=True)}
    return Drawing(rounded, name, contrast, chosen=True)


def _mixtures(kinds: int) -> list[list[float]]:
    """All ways to divide the images among ``kinds`` kinds, each with its equal minimum."""
    return [
        [_ALIKE / kinds + (1 - _ALIKE) * own / _PARTS for own in parts]
        for parts in product(range(_PARTS + 1), repeat=kinds)
        if sum(parts) == _PARTS
    ]


def _images(drawing: Drawing, prober: Prober, form: ImageForm, seed: int) -> Tensor:
    _, height, width = form.shape
    count = min(max(_PIXELS // (height * width), 16), 64)
    # The same seed for all candidates, so that they differ in nothing else.
    pixels = drawing.draw(np.random.default_rng([seed, 20]), count, form.shape)
    return form.normalize(pixels).to(prober.device, image_dtype(prober.trio.teacher))


def _by_answers(images: Sequence[Tensor], mixtures: Tensor, prober: Prober) -> Tensor:
    """Minus the mutual information [M] of image and class in the teacher's answers, for each mixture.

    ``mixtures`` [M, K] are the shares of the K batches. The information is large if the answers are certain, and of all
    classes. Images like the teacher's data give both.
    """
    prober.trio.teacher.eval()
    ask = prober.asker(graph=False)
    answers = [ask(batch).softmax(1) for batch in images]
    means = torch.stack([own.mean(0) for own in answers])
    entropies = torch.stack([-torch.xlogy(own, own).sum(1).mean() for own in answers])
    shares = mixtures.to(means.dtype)
    classes = shares @ means
    return shares @ entropies + torch.xlogy(classes, classes).sum(1)


def _by_statistics(images: Sequence[Tensor], mixtures: Tensor, prober: Prober) -> Tensor:
    """[M]: the distances of :func:`_distances`, for ``mixtures`` [M, K] of the K batches."""
    teacher = prober.trio.teacher.eval()
    seen = []
    for batch in images:
        with record_statistics(teacher) as statistics:
            prober.asker(graph=False, unfolded=True, hooked=True)(batch)
        seen.append(statistics[:_LAYERS])
    return _distances(seen, mixtures)


def _distances(seen: Sequence[Sequence[LayerStatistics]], mixtures: Tensor) -> Tensor:
    """The relative distances [M] of the mixtures' statistics from the running ones, summed over the layers.

    The statistics of ``mixtures`` [M, K] follow from ``seen``, those of the K parts.
    """
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
