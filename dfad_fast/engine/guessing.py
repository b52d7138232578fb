"""Notices a teacher that does not know the test images, which mostly are not prepared as it expects."""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor

from dfad_fast.errors import DFADFastWarning

_FEWEST_TO_JUDGE = 100
_MOST_BY_CHANCE = 0.9


def warn_of_guesses(answers: Tensor, labels: Tensor) -> None:
    """Warns if the teacher's ``answers`` [N] agree with ``labels`` [N] no more than if the two were shuffled."""
    count = len(labels)
    length = 1 + int(torch.cat([answers, labels]).max())
    of_answers, of_labels = (
        values.bincount(minlength=length).double() / count for values in (answers, labels)
    )
    chance = float(of_answers @ of_labels)
    right = float((answers == labels).double().mean())
    spread = math.sqrt(chance * (1 - chance) / count)
    # Where nearly all images have one label, guessing cannot be told from knowing.
    if count < _FEWEST_TO_JUDGE or chance > _MOST_BY_CHANCE or right > chance + 2 * spread:
        return
    warnings.warn(
        f"the teacher classifies {100 * right:.1f} % of the test images correctly, no more than by chance: check that "
        "they are normalized like its training images, that labels number its classes in its order, and that its "
        "weights are loaded",
        DFADFastWarning,
        stacklevel=2,
    )
