"""How long do the student and its files take to answer?"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dfad_fast.exporting.formats import Predict

BATCHES = (1, 64)
_SECONDS, _FEWEST, _MOST = 3.0, 3, 50


@dataclass(frozen=True)
class Latency:
    """Of one kind of file, at one size of batch."""

    milliseconds: float
    """The median."""
    runs: int


@torch.inference_mode()
def latencies(predicts: Sequence[Predict], images: Tensor, batch: int) -> list[Latency]:
    """The time that each of ``predicts`` takes for ``batch`` of ``images`` [N, C, H, W], over 3 to 50 runs.

    They take turns, so that what else the machine does falls on all alike.
    """
    shown = images[torch.arange(batch) % len(images)]
    warm_up = sum(_seconds(predict, shown) for predict in predicts)
    runs = min(max(int(_SECONDS / warm_up), _FEWEST), _MOST)
    times = [[_seconds(predict, shown) for predict in predicts] for _ in range(runs)]
    return [Latency(1000 * statistics.median(of), runs) for of in zip(*times, strict=True)]


def _seconds(predict: Predict, images: Tensor) -> float:
    start = time.perf_counter()
    predict(images)
    return time.perf_counter() - start
