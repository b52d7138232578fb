"""The classes that a batch is to be made of."""

from __future__ import annotations

import numpy as np


def balanced_labels(rng: np.random.Generator, classes: int, count: int) -> np.ndarray:
    """``count`` labels, in rounds of one of each class; the last round may be a draw of some classes, each once."""
    whole, rest = divmod(count, classes)
    return np.concatenate([np.tile(np.arange(classes), whole), rng.permutation(classes)[:rest]])
