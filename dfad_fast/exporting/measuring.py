"""How long do the student and its files take to answer?"""

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
    """What was measured of one kind of file, at one size of batch."""

    milliseconds: float
    """The median."""
    runs: int


@torch.inference_mode()
def latency(predict: Predict, images: Tensor, batch: int) -> Latency:
    """The time that ``predict`` takes for ``batch`` of ``images`` [N, C, H, W], over 3 to 50 runs in a row.

    In a row, and not in turns with others: threads of onnxruntime spin on after a call, and would hold up PyTorch's.
    """
    shown = images[torch.arange(batch) % len(images)]
    warm_up = max(_seconds(predict, shown) for _ in range(_WARM_UP))
    runs = min(max(int(_SECONDS / warm_up), _FEWEST_RUNS), MOST_RUNS)
    return Latency(1000 * statistics.median(_seconds(predict, shown) for _ in range(runs)), runs)


def _seconds(predict: Predict, images: Tensor) -> float:
    start = time.perf_counter()
    predict(images)
    return time.perf_counter() - start
