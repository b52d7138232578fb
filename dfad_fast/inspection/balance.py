"""Does the generator make images of every class?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ClassBalance:
    """How often the teacher answers each class."""

    counts: list[int]
    entropy: float
    """From 0, all images of one class, to 1, as many of each."""


def class_balance(answers: Tensor, classes: int) -> ClassBalance:
    """The histogram of predicted classes [N], each in 0 .. classes - 1, and its normalised entropy.

    entropy = - sum over classes of p log p / log(classes), Shannon's, with 0 log 0 = 0. It is the information
    entropy that DAFL (Chen et al., ICCV 2019, equation 4) rewards, of arg-max answers and over log(classes).
    """
    counts = torch.bincount(answers, minlength=classes)
    p = counts.double() / counts.sum()
    entropy = -torch.special.xlogy(p, p).sum().item() / math.log(classes)
    return ClassBalance(counts.tolist(), abs(entropy))  # abs: of one class only it would be -0.0
