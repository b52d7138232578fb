"""Does a network's confidence say how often it is right?"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dfad_fast.errors import UsageError


@dataclass(frozen=True)
class Calibration:
    """The reliability curve over bins of equal width, and its error. Empty bins have NaN for their means."""

    error: float
    """Expected calibration error, from 0 to 1."""
    bins: int
    counts: list[int]
    confidence: list[float]
    """Mean confidence in each bin."""
    accuracy: list[float]
    """Fraction of right answers in each bin."""


def calibration(logits: Tensor, labels: Tensor, bins: int) -> Calibration:
    """The expected calibration error of ``logits`` [N, classes] for ``labels`` [N].

        ECE = sum over bins of n_bin / N * |accuracy(bin) - confidence(bin)|

    The confidence is the largest softmax probability; bin b of B holds those in (b/B, (b+1)/B]. Guo et al., On
    Calibration of Modern Neural Networks, ICML 2017, equation 3.

    Raises UsageError for less than one bin.
    """
    if bins < 1:
        raise UsageError(f"--bins must be at least 1, got {bins}")
    confidence, answer = logits.double().softmax(1).max(1)
    right = (answer == labels).double()
    where = (confidence * bins).ceil().long().clamp(1, bins) - 1
    counts = torch.bincount(where, minlength=bins)
    mean_confidence = torch.bincount(where, confidence, bins) / counts
    mean_right = torch.bincount(where, right, bins) / counts
    gaps = (mean_right - mean_confidence).abs().nan_to_num(0.0)  # empty bins
    error = (counts * gaps).sum() / len(labels)
    return Calibration(error.item(), bins, counts.tolist(), mean_confidence.tolist(), mean_right.tolist())
