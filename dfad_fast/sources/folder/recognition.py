"""How a teacher classifies images that it was not trained on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from dfad_fast.models.reading.batch_norm import LayerStatistics
from dfad_fast.networks.balance import ClassBalance, class_balance
from dfad_fast.networks.probing import Prober
from dfad_fast.terms import Weighted
from dfad_fast.terms.batch_norm import BatchNormStatistics

# The limits separate images that a student learned well from, from others. Digits, resnet8-w32: 10.0 of 10 classes,
# confidence 1.00, 0.08 deviations off; mirrored 7.1, 0.82, 0.14; half of them photos 6.6, 0.96, 0.36; but inverted 5.7,
# 0.72, 0.41; pixels shuffled 4.7, 0.78, 0.30; photos 2.1, 0.93, 0.69; noise 1.2, 0.98, 0.61. CIFAR-10, ResNet-20: test
# images 10.0, 0.97, 0.11; upside down 8.9, 0.86, 0.11; in gray 9.9, 0.94, 0.16; but enlarged twice 3.8, 0.85, 0.32.
# Confidence alone says little: a teacher may be confident on noise, and one trained with smoothed labels is never
# confident.
_FEWEST_CLASSES = 0.6
_LEAST_CONFIDENCE = 0.5
_LARGEST_SHIFT = 0.5
_MEASURED = 1024
"""The number of images for batch norm statistics."""


@dataclass(frozen=True)
class Recognition:
    """What the teacher makes of the images: their ``classes``, int64 [N], how sure it is, and how unusual they are.

    ``confidence`` is the mean of the largest probabilities, from 0 to 1. ``shift`` is the distance of the images' means
    from the running means of the teacher's batch norm layers, in running standard deviations: the root mean square over
    channels, averaged over layers; None without such layers.
    """

    classes: Tensor
    balance: ClassBalance
    confidence: float
    shift: float | None

    def __str__(self) -> str:
        balance = self.balance
        text = (
            f"the teacher sees effectively {balance.effective:.1f} of its {len(balance.counts)} classes, with "
            f"confidence {self.confidence:.2f}"
        )
        if self.shift is not None:
            text += f", and its batch norm statistics are {self.shift:.2f} deviations off"
        return text

    @property
    def problem(self) -> str | None:
        """What is wrong with the images, if they are too far from the teacher's data."""
        balance, wrong = self.balance, []
        if balance.effective < _FEWEST_CLASSES * len(balance.counts):
            wrong.append(f"fewer classes than {_FEWEST_CLASSES * len(balance.counts):g}")
        if self.confidence < _LEAST_CONFIDENCE:
            wrong.append(f"confidence below {_LEAST_CONFIDENCE}")
        if self.shift is not None and self.shift > _LARGEST_SHIFT:
            wrong.append(f"statistics more than {_LARGEST_SHIFT} off")
        return " and ".join(wrong) or None


def recognize(prober: Prober, batches: Iterator[Tensor]) -> Recognition:
    """Runs the teacher, in the form that steps use, on ``batches`` of images [B, C, H, W] on its device."""
    prober.trio.set_modes(student=True)
    classes: list[Tensor] = []
    sum_of_confidence, statistics = 0.0, _Statistics()
    ask = prober.asker(graph=False)
    for images in batches:
        if statistics.images < _MEASURED:
            view = prober.look(images, (Weighted(1.0, BatchNormStatistics()),), graph=False)
            statistics.add(len(images), view.statistics)
            logits = view.logits
        else:
            logits = ask(images)
        confidence, answers = logits.softmax(1).max(1)
        sum_of_confidence += confidence.double().sum().item()
        classes.append(answers.cpu())
    found = torch.cat(classes)
    balance = class_balance(found, prober.trio.classes)
    return Recognition(found, balance, sum_of_confidence / len(found), statistics.shift())


class _Statistics:
    """Means at each layer, over batches; the last may be smaller."""

    def __init__(self) -> None:
        self.images = 0
        self._sums: list[Tensor] = []
        self._layers: list[LayerStatistics] = []

    def add(self, images: int, layers: list[LayerStatistics]) -> None:
        self.images += images
        sums = [images * layer.mean.double() for layer in layers]
        self._sums = [a + b for a, b in zip(self._sums, sums, strict=True)] if self._sums else sums
        self._layers = layers

    def shift(self) -> float | None:
        off = [
            ((total / self.images - layer.running_mean).square() / (layer.running_variance + 1e-5))
            .mean()
            .sqrt()
            for total, layer in zip(self._sums, self._layers, strict=True)
        ]
        return torch.stack(off).mean().item() if off else None
