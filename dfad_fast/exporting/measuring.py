"""Latency of the student and of its exported files."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import torch
from torch import Tensor

from dfad_fast.exporting.formats import Predict

BATCHES = (1, 64)
MOST_RUNS = 50
_FEWEST_RUNS, _WARM_UP, _SECONDS = 3, 2, 1.0


@dataclass(frozen=True)
class Latency:
    """The latency of one file at one batch size."""

    milliseconds: float
    """The median."""
    runs: int


@torch.inference_mode()
def latency(predict: Predict, images: Tensor, batch: int) -> Latency:
    """The time that ``predict`` takes for ``batch`` of the ``images`` [N, C, H, W], over 3 to 50 consecutive runs.

    Runs of different files do not alternate, because onnxruntime's threads keep spinning after a call and would slow
    down PyTorch's.
    """
    shown = images[torch.arange(batch) % len(images)]
    warm_up = max(_seconds(predict, shown) for _ in range(_WARM_UP))
    runs = min(max(int(_SECONDS / warm_up), _FEWEST_RUNS), MOST_RUNS)
    return Latency(1000 * statistics.median(_seconds(predict, shown) for _ in range(runs)), runs)


def _seconds(predict: Predict, images: Tensor) -> float:
    start = time.perf_counter()
    predict(images)
    return time.perf_counter() - start
