"""The inputs of the teacher's layers on a few images: means and covariances of their channels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dfad_fast.models.reading.check import left_as_it_was
from dfad_fast.models.reading.hooks import first_input
from dfad_fast.models.starting.channels import Map

_MOST_CHANNELS = 4096
"""Layers with more input channels are not measured: their covariance would not fit in memory."""
_MOST_ROWS = 8192
"""The number of evenly spaced positions of a batch to read, which is enough for all channels."""


@dataclass(frozen=True)
class Moments:
    """Moments of one layer's input, whose channels are ``channels`` [C].

    ``mean`` [C] and ``covariance`` [C, C] are float64 on the CPU. ``energy`` [C] is the sum of the squared weights that
    read each channel.
    """

    channels: Tensor
    mean: Tensor
    covariance: Tensor
    energy: Tensor

    @property
    def output_variance(self) -> float:
        """The approximate variance of the layer's outputs, to compare layers."""
        return float((self.covariance.diagonal() * self.energy).sum().clamp(min=1e-300))


def measure(network: nn.Module, of: Map, batches: Iterable[Tensor]) -> dict[str, Moments]:
    """The moments of ``network``'s convolutions and linear layers that sum over channels, by path.

    ``batches`` hold images [B, C, H, W]. The network is left unchanged.
    """
    sums: dict[str, list[Any]] = {}
    with ExitStack() as stack:
        stack.enter_context(left_as_it_was(network))
        for path, layer in of.layers.items():
            use = layer.uses.get("weight")
            if use is None or use.groups > 1 or 1 not in use.channels:
                continue
            if len(use.channels[1]) > _MOST_CHANNELS:
                continue
            stack.callback(network.get_submodule(path).register_forward_pre_hook(_adding(sums, path)).remove)
        stack.enter_context(torch.no_grad())
        network.eval()
        for images in batches:
            network(images)
    return {path: _moments(network, of, path, *own) for path, own in sums.items()}


def _adding(sums: dict[str, list[Any]], path: str) -> Any:
    def see(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        x = first_input(inputs, {})
        if x is None:
            return
        channels_at = -1 if isinstance(module, nn.Linear) else 1
        rows = x.movedim(channels_at, -1).flatten(0, -2)
        # An odd step reaches all columns of maps whose width is a power of two.
        rows = rows[:: max(1, len(rows) // _MOST_ROWS) | 1].double()
        own = sums.setdefault(path, [0, 0.0, 0.0])
        own[0] += len(rows)
        own[1] = own[1] + rows.sum(0)
        own[2] = own[2] + rows.T @ rows

    return see


def _moments(network: nn.Module, of: Map, path: str, count: int, total: Tensor, squares: Tensor) -> Moments:
    mean = total / count
    weight = network.get_submodule(path).get_parameter("weight").detach().double()
    energy = weight.square().sum([dim for dim in range(weight.dim()) if dim != 1])
    channels = of.layers[path].uses["weight"].channels[1]
    return Moments(channels, mean.cpu(), (squares / count - mean.outer(mean)).cpu(), energy.cpu())


def telling(moments: Mapping[str, Moments], path: str, kept: list[int]) -> tuple[Tensor, Tensor] | None:
    """Predicts all channels from those at the positions ``kept`` by least squares; None if nothing was measured.

    ``x ≈ spread @ x[kept] + rest`` with spread [C, kept] and rest [C].
    """
    own = moments.get(path)
    if own is None:
        return None
    inner = own.covariance[kept][:, kept]
    ridge = 1e-4 * inner.diagonal().mean().clamp(min=1e-300)
    identity = torch.eye(len(kept), dtype=inner.dtype, device=inner.device)
    inner = inner + ridge * identity
    spread = torch.linalg.solve(inner, own.covariance[kept]).T
    spread[kept] = identity
    return spread, own.mean - spread @ own.mean[kept]
