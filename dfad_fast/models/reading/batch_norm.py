"""Statistics at a network's batch norm layers: those of a batch of images and those of the data."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from dfad_fast.distributed import differentiable, processes
from dfad_fast.models.loading.programs import programs_in
from dfad_fast.models.reading.hooks import first_input
from dfad_fast.ops import channel_statistics
from dfad_fast.precision import at_least_float32

_INSTANCE_NORMS = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)


@dataclass(frozen=True)
class LayerStatistics:
    """Per-channel statistics at one batch norm layer, each [C]: the batch's and the layer's running ones.

    ``instance_means`` are the means of each image of this process, [B, C], if requested.
    """

    mean: Tensor
    variance: Tensor
    running_mean: Tensor
    running_variance: Tensor
    instance_means: Tensor | None = None


def batch_norm_layers(network: nn.Module) -> list[nn.Module]:
    """The batch norm layers of ``network`` that keep running statistics, whatever their class.

    They are recognized by their buffers ``running_mean`` and ``running_var``: torch's own and SyncBatchNorm, those with
    an activation (timm's BatchNormAct2d), and frozen ones (torchvision's FrozenBatchNorm2d), which are not subclasses.
    Instance norms keep statistics of single images and do not count. Neither do layers in a program, which has their
    buffers but hides their inputs.
    """
    hidden = {id(part) for program in programs_in(network) for part in program.modules()}
    return [
        module
        for module in network.modules()
        if id(module) not in hidden
        and not isinstance(module, _INSTANCE_NORMS)
        and {"running_mean", "running_var"} <= {name for name, _ in module.named_buffers(recurse=False)}
    ]


def _instance_means(x: Tensor) -> Tensor:
    """[B, C] of x [B, C, ...]."""
    x = at_least_float32(x)
    return x.flatten(2).mean(2) if x.dim() > 2 else x


def pooled(statistics: Tensor) -> Tensor:
    """Mean and biased variance [2, C] over all processes, which have equally many values. Differentiable."""
    means, variances = differentiable.gather(statistics[None]).unbind(1)
    mean = means.mean(0)
    return torch.stack((mean, variances.mean(0) + (means - mean).square().mean(0)))


def over_processes(layers: list[LayerStatistics]) -> list[LayerStatistics]:
    """The statistics of the whole batch if several processes share it. Differentiable."""
    if processes.count() == 1 or not layers:
        return layers
    own = torch.stack([torch.cat([x.mean for x in layers]), torch.cat([x.variance for x in layers])])
    mean, variance = pooled(own)
    sizes = [len(x.mean) for x in layers]
    return [
        replace(layer, mean=m, variance=v)
        for layer, m, v in zip(layers, mean.split(sizes), variance.split(sizes), strict=True)
    ]


@contextmanager
def record_statistics(network: nn.Module, instances: bool = False) -> Iterator[list[LayerStatistics]]:
    """Yields a list that holds, after a forward pass, the statistics at each batch norm layer, in order of use.

    The batch's variance is biased (divided by the number of elements), as a layer uses it in training. Differentiable
    in the images. ``instances``: whether to record each image's means too.
    """
    statistics: list[LayerStatistics] = []

    def see(layer: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        given = first_input(inputs, keywords)
        assert given is not None
        mean, variance = channel_statistics(given).unbind()
        assert isinstance(layer.running_mean, Tensor)
        assert isinstance(layer.running_var, Tensor)
        means = _instance_means(given) if instances else None
        statistics.append(LayerStatistics(mean, variance, layer.running_mean, layer.running_var, means))

    with ExitStack() as stack:
        for layer in batch_norm_layers(network):
            stack.callback(layer.register_forward_pre_hook(see, with_kwargs=True).remove)
        yield statistics
