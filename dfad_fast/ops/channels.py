r"""Mean and biased variance of each channel.

.. math:: \mu_c = \frac1n \sum x, \quad \sigma^2_c = \frac1n \sum (x - \mu_c)^2, \qquad
          \frac{\partial L}{\partial x} = \frac1n \left(\frac{\partial L}{\partial \mu_c}
          + 2 \frac{\partial L}{\partial \sigma^2_c} (x - \mu_c)\right)

with sums over the n values of channel c. Each block subtracts a shift, the mean of a few of its values, before summing,
and blocks are combined in double precision. So a mean far from 0 costs the variance no digits (Chan et al. 1983,
"Algorithms for Computing the Sample Variance").
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

import torch

from dfad_fast import backends
from dfad_fast.ops._checks import check_channel_grad, check_features, check_types
from dfad_fast.ops._dtypes import compute_dtype

_NAME = "channel_statistics"
_op = backends.op(_NAME)


def reference(features: Sequence[torch.Tensor]) -> torch.Tensor:
    """The op's result [2, sum of C] in plain PyTorch, differentiable any number of times."""
    check_features(_NAME, features)
    dtype = compute_dtype(*features)
    return torch.cat([_reference(x).to(dtype) for x in features], dim=1)


def _reference(x: torch.Tensor) -> torch.Tensor:
    dims = [d for d in range(x.dim()) if d != 1]
    variance, mean = torch.var_mean(x.to(compute_dtype(x)), dim=dims, correction=0)
    return torch.stack((mean, variance))


@overload
def channel_statistics(features: torch.Tensor) -> torch.Tensor: ...
@overload
def channel_statistics(features: Sequence[torch.Tensor]) -> list[torch.Tensor]: ...
def channel_statistics(features: torch.Tensor | Sequence[torch.Tensor]) -> torch.Tensor | list[torch.Tensor]:
    """Mean and biased variance of each channel in one pass, as used by a batch norm in training.

    Differentiable; backward is one pass, too, and keeps only the features. ``torch.var_mean`` takes several times as
    long, forward and backward. Source of the summation: Chan et al. 1983, "Algorithms for Computing the Sample
    Variance".

    Args:
        features: [B, C, ...]; float64, float32, float16 or bfloat16, any strides; or a list of such tensors, computed
            in one launch.

    Returns:
        [2, C]: means and variances, in float32, or in float64 if an input is float64. For a list of features, a list of
        such tensors. Channels without values give NaN. A NaN or an infinity makes its channel's variance NaN and its
        mean not finite.

    Raises:
        TypeError: features are not floating-point tensors.
        ValueError: features have no channel dimension or lie on several devices, or the list is empty.
    """
    if isinstance(features, torch.Tensor):
        return statistics_of([features])
    if not isinstance(features, list | tuple):
        raise TypeError(
            f"{_NAME}: features must be a tensor or a list of them, got {type(features).__name__}"
        )
    if not features:
        check_features(_NAME, features)
    check_types(_NAME, "features", features)
    return list(statistics_of(features).split([x.shape[1] for x in features], dim=1))


def statistics_of(features: Sequence[torch.Tensor]) -> torch.Tensor:
    """Statistics of all features [B, C, ...] in one tensor [2, sum of C]; errors as :func:`channel_statistics`."""
    return _op(features) if backends.native(*features) else reference(features)


@backends.register_fake(_NAME)
def _fake(features: list[torch.Tensor]) -> torch.Tensor:
    check_features(_NAME, features)
    channels = sum(x.shape[1] for x in features)
    return features[0].new_empty((2, channels), dtype=compute_dtype(*features))


@backends.register_fake(f"{_NAME}_backward")
def _fake_backward(
    grad: torch.Tensor, features: list[torch.Tensor], statistics: torch.Tensor
) -> list[torch.Tensor]:
    check_features(_NAME, features)
    check_channel_grad(_NAME, grad, statistics, features)
    return [torch.empty_like(x) for x in features]
