"""Checks whether images show a teacher every class."""

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
    """From 0 (all images of one class) to 1 (equally many of each)."""

    @property
    def covered(self) -> int:
        """The number of classes that the teacher answers at least once."""
        return sum(count > 0 for count in self.counts)

    @property
    def effective(self) -> float:
        """The effective number of classes, exp of the entropy in nats: from 1 to the number of classes.

        That many equally frequent classes have the same entropy (Hill 1973, the diversity of order 1).
        """
        return len(self.counts) ** self.entropy

    @property
    def most_frequent(self) -> tuple[int, float]:
        """The most frequent class and its fraction of the images."""
        highest = max(self.counts)
        return self.counts.index(highest), highest / sum(self.counts)


def class_balance(answers: Tensor, classes: int) -> ClassBalance:
    """The histogram of predicted classes [N], each in 0 .. classes - 1, and its normalized entropy.

    entropy = - sum over classes of p log p / log(classes), Shannon's, with 0 log 0 = 0. DAFL rewards this information
    entropy (Chen et al., ICCV 2019, equation 4); here it is computed on arg-max answers and divided by log(classes).
    """
    return balance_of_counts(torch.bincount(answers, minlength=classes))


def balance_of_counts(counts: Tensor) -> ClassBalance:
    """The same from a histogram [classes] of integers, at least one of them positive."""
    p = counts.double() / counts.sum()
    entropy = -torch.special.xlogy(p, p).sum().item() / math.log(len(counts))
    return ClassBalance(counts.tolist(), abs(entropy))  # abs: of one class only it would be -0.0
