"""Are two networks' features alike, whatever their widths? Linear CKA, from minibatches."""

from __future__ import annotations

import math

import torch
from torch import Tensor

FEWEST_IMAGES = 4
"""Below that the unbiased HSIC is not defined."""
_COLUMNS = 1 << 16  # features at a time in float64, since those of large images are many


def unbiased_hsic(k: Tensor, l: Tensor) -> Tensor:  # noqa: E741 (the paper's letters)
    """The Hilbert-Schmidt independence criterion of two samples, without the bias that wide features give it.

    With K', L' the Gram matrices with zeroed diagonals,

        HSIC = [tr(K'L') + (1'K'1)(1'L'1) / ((n-1)(n-2)) - 2/(n-2) 1'K'L'1] / (n(n-3))

    Song et al., Feature Selection via Dependence Maximization, JMLR 2012, equation 5. Its expectation is 0 for
    independent samples, so a value may be below 0.

    Args:
        k: Gram matrix [n, n] of one sample's features of n >= 4 images, symmetric.
        l: that of the other's, for the same images.

    Raises:
        ValueError: the matrices are not two of [n, n] with n >= 4.
    """
    n = len(k)
    if k.shape != (n, n) or l.shape != (n, n) or n < FEWEST_IMAGES:
        raise ValueError(
            f"unbiased_hsic expects two Gram matrices [n, n] with n >= {FEWEST_IMAGES}, "
            f"got {list(k.shape)} and {list(l.shape)}"
        )
    k = k - k.diag().diag()
    l = l - l.diag().diag()  # noqa: E741
    trace = (k * l).sum()
    sums = k.sum() * l.sum() / ((n - 1) * (n - 2))
    cross = (k.sum(0) * l.sum(0)).sum() * 2 / (n - 2)
    return (trace + sums - cross) / (n * (n - 3))


class MinibatchCKA:
    """Linear CKA of features that are seen a batch at a time.

        CKA = sum HSIC(K, L) / sqrt(sum HSIC(K, K) * sum HSIC(L, L))

    with sums over batches and K = X X', L = Y Y' of a batch's features. Nguyen et al., Do Wide and Deep Networks
    Learn the Same Things?, ICLR 2021, equation 2. 1 for features that are equal up to rotation, scale and shift;
    about 0, and possibly below it, for independent ones.
    """

    def __init__(self) -> None:
        self._sums = torch.zeros(3, dtype=torch.float64)

    def add(self, x: Tensor, y: Tensor) -> None:
        """Features [n, ...] and [n, ...] of the same n >= 4 images. Raises ValueError for fewer."""
        k, l = _gram(x), _gram(y)  # noqa: E741
        self._sums += torch.stack([unbiased_hsic(k, l), unbiased_hsic(k, k), unbiased_hsic(l, l)]).cpu()

    def value(self) -> float:
        """NaN where it is not defined: features that are the same for every image, or not finite."""
        both, x, y = self._sums.tolist()
        # Rounding leaves features that do not vary a little above 0 or below it.
        return both / math.sqrt(x * y) if x > 0 and y > 0 else math.nan


def _gram(features: Tensor) -> Tensor:
    rows = features.flatten(1)
    gram = torch.zeros(len(rows), len(rows), dtype=torch.float64, device=rows.device)
    for columns in rows.split(_COLUMNS, 1):
        # The unbiased HSIC does not see the mean, but rounding does.
        centered = columns.double() - columns.double().mean(0)
        gram += centered @ centered.T
    return gram
