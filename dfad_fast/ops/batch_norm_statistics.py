r"""Distance of a batch's statistics from the running statistics of a network's batch norm layers.

.. math:: L = \sum_k \lVert \mu_k - \hat\mu_k \rVert_2 + \lVert \sigma^2_k - \hat\sigma^2_k \rVert_2

with the batch's mean and biased variance per channel at the input of layer k; a hat marks the layer's running ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from dfad_fast.ops._checks import check_features, check_floating, check_types
from dfad_fast.ops.channels import statistics_of

_NAME = "batch_norm_statistics_loss"


def batch_norm_statistics_loss(
    features: torch.Tensor | Sequence[torch.Tensor],
    running_means: torch.Tensor | Sequence[torch.Tensor],
    running_variances: torch.Tensor | Sequence[torch.Tensor],
) -> torch.Tensor:
    """Penalize images whose statistics differ from the running ones of a network's batch norm layers.

    :func:`channel_statistics` reads all features in one launch, with one pass forward and one backward; the rest is
    plain PyTorch on a few numbers per channel. A distance of 0 has gradient 0. Source: DeepInversion, Yin et al. 2020,
    arXiv 1912.08795.

    Args:
        features: [B, C, ...], the input of a batch norm layer; float64, float32, float16 or bfloat16, any strides; or a
            list of such tensors, one per layer.
        running_means: [C], the layer's ``running_mean``; or a list of them.
        running_variances: [C], the layer's ``running_var``; or a list of them.

    Returns:
        A 0-dim tensor, the sum over the layers, in float32, or in float64 if an input is float64.

    Raises:
        TypeError: an input is not a floating-point tensor, or some are lists and others are not.
        ValueError: lengths, shapes or devices do not match.
    """
    values, means, variances = _lists(features, running_means, running_variances)
    _check(values, means, variances)
    running = torch.stack((torch.cat(list(means)), torch.cat(list(variances))))
    return distance(statistics_of(values), running, [x.shape[1] for x in values])


def distance(statistics: torch.Tensor, running: torch.Tensor, channels: Sequence[int]) -> torch.Tensor:
    """The loss from statistics and running statistics, each [2, sum of C], means first.

    Args:
        statistics: float32 or float64, from :func:`channel_statistics`.
        running: the layers' running means and variances, concatenated.
        channels: number of channels of each layer.

    Returns:
        A 0-dim tensor.
    """
    parts = (statistics - running).split(list(channels), dim=1)
    return torch.stack([torch.linalg.vector_norm(part, dim=1) for part in parts]).sum()


def _lists(*inputs: torch.Tensor | Sequence[torch.Tensor]) -> list[Sequence[torch.Tensor]]:
    if all(isinstance(x, torch.Tensor) for x in inputs):
        return [[x] for x in inputs if isinstance(x, torch.Tensor)]
    if all(isinstance(x, list | tuple) for x in inputs):
        return [x for x in inputs if isinstance(x, list | tuple)]
    got = [type(x).__name__ for x in inputs]
    raise TypeError(
        f"{_NAME}: features, running_means and running_variances must all be tensors or all be lists of tensors, got "
        f"{got[0]}, {got[1]} and {got[2]}"
    )


def _check(
    features: Sequence[torch.Tensor], means: Sequence[torch.Tensor], variances: Sequence[torch.Tensor]
) -> None:
    if not len(features) == len(means) == len(variances):
        raise ValueError(
            f"{_NAME}: features, running_means and running_variances must be equally long lists, got "
            f"{len(features)}, {len(means)} and {len(variances)} tensors"
        )
    check_types(_NAME, "features", features)
    check_features(_NAME, features)
    check_types(_NAME, "running_means", means)
    check_types(_NAME, "running_variances", variances)
    for i, x in enumerate(features):
        layer = f"[{i}]" if len(features) > 1 else ""
        for name, running in (("running_means", means[i]), ("running_variances", variances[i])):
            check_floating(_NAME, f"{name}{layer}", running)
            if running.shape != (x.shape[1],):
                raise ValueError(
                    f"{_NAME}: {name}{layer} must have shape [{x.shape[1]}], got {list(running.shape)}"
                )
            if running.device != x.device:
                raise ValueError(f"{_NAME}: {name}{layer} must be on {x.device}, got {running.device}")
