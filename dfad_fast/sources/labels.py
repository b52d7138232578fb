"""Balanced class labels for a batch."""

from __future__ import annotations

import numpy as np


def balanced_labels(rng: np.random.Generator, classes: int, count: int) -> np.ndarray:
    """``count`` labels in rounds with each class once; an incomplete last round draws distinct classes."""
    whole, rest = divmod(count, classes)
    return np.concatenate([np.tile(np.arange(classes), whole), rng.permutation(classes)[:rest]])
