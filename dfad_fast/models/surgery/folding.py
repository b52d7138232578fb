"""Folds a frozen network's batch norm layers into the convolutions and linear layers before them."""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from dfad_fast.errors import first_line
from dfad_fast.models.reading.data_flow import DataFlow
from dfad_fast.models.reading.hooks import first_input
from dfad_fast.models.surgery.foldable import NORMS, TRANSPOSED, Pair, find_pairs
from dfad_fast.precision import tolerance


class _NotFolded(Exception):
    """Why nothing is folded."""


@dataclass(frozen=True)
class Folded:
    """``network`` is a frozen copy without the ``folded`` batch norm layers and with the ``kept`` ones unchanged.

    If nothing is folded it is the given network, and ``reason`` says why.
    """

    network: nn.Module
    folded: int
    kept: int
    reason: str | None = None

    def __str__(self) -> str:
        if self.reason:
            return f"none folded: {self.reason}"
        return f"{self.folded} of {self.folded + self.kept} folded into the layers before them"


def fold_batch_norm(network: nn.Module, images: Tensor, watched: Collection[str] = ()) -> Folded:
    """A frozen copy of ``network`` in eval mode that answers the same with fewer passes over its features.

    A batch norm layer is folded if it is the only user of the output of one convolution or linear layer, which gets new
    weights and a bias. ``nn.Identity`` replaces it, so that paths and hooks stay the same. All other parameters are
    shared with ``network``, which is left unchanged. Never raises: if a network cannot be copied, traced or folded, it
    is returned itself with the reason.

    Args:
        network: the network, which is left unchanged.
        images: a few different images, on which copy and original must agree.
        watched: paths of modules whose outputs are read, so that they must stay the same.
    """
    norms = sum(type(module) in NORMS for module in network.modules())
    devices = [images.device] if images.device.type == "cuda" else []
    try:
        if not norms:
            raise _NotFolded("there are no batch norm layers")
        with torch.random.fork_rng(devices), torch.no_grad():
            traced = _frozen_copy(network)
            flow = DataFlow(traced)
            pairs = find_pairs(traced, flow, watched)
            if not pairs:
                parts = ", and parts of the network cannot be traced" if flow.untraceable else ""
                raise _NotFolded(f"no layer is the only user of a convolution or linear layer{parts}")
            duplicate = _frozen_copy(network)
            pairs, expected = _used_as_expected(pairs, duplicate, images)
            for pair in pairs:
                _fold(pair, duplicate)
            _check(_answer(duplicate, images), expected)
    except _NotFolded as reason:
        return Folded(network, 0, norms, str(reason))
    return Folded(duplicate, len(pairs), norms - len(pairs))


def _frozen_copy(network: nn.Module) -> nn.Module:
    """A copy in eval mode with the same parameters, without gradients for them, and with its own buffers."""
    memo = {
        id(parameter): nn.Parameter(parameter.detach(), requires_grad=False)
        for parameter in network.parameters()
        if type(parameter) is nn.Parameter
    }
    try:
        duplicate = copy.deepcopy(network, memo)
    except Exception as error:
        raise _NotFolded(f"the network cannot be copied ({first_line(error, 200)})") from error
    if not set(network.modules()).isdisjoint(duplicate.modules()):
        raise _NotFolded("a copy of the network shares modules with it")
    return duplicate.eval().requires_grad_(False)


def _used_as_expected(pairs: Sequence[Pair], network: nn.Module, images: Tensor) -> tuple[list[Pair], Tensor]:
    """The pairs that run on features with channels in the dimension that both layers expect, and the answer.

    For the features [B, L, F] of a linear layer, BatchNorm1d takes L to be the channels.
    """
    dimensions: dict[Pair, set[int]] = {pair: set() for pair in pairs}

    def look(pair: Pair, features: Tensor | None) -> None:
        assert features is not None
        dimensions[pair].add(features.dim())

    hooks = [
        network.get_submodule(pair.norm).register_forward_pre_hook(
            lambda _, inputs, keywords, pair=pair: look(pair, first_input(inputs, keywords)), with_kwargs=True
        )
        for pair in pairs
    ]
    answer = _answer(network, images)
    for hook in hooks:
        hook.remove()
    used = [pair for pair in pairs if dimensions[pair] == {_layer(pair, network).weight.dim()}]
    if not used:
        raise _NotFolded("the foldable layers did not run on an example as expected")
    return used, answer


def _layer(pair: Pair, network: nn.Module) -> nn.Conv2d | nn.Linear:
    return cast("nn.Conv2d | nn.Linear", network.get_submodule(pair.layer))


def _fold(pair: Pair, network: nn.Module) -> None:
    layer = _layer(pair, network)
    norm = cast(nn.BatchNorm2d, network.get_submodule(pair.norm))
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = (_exact(norm.running_var) + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * _exact(norm.weight)
    bias = -_exact(norm.running_mean) * scale
    if layer.bias is not None:
        bias = bias + _exact(layer.bias) * scale
    if norm.bias is not None:
        bias = bias + _exact(norm.bias)
    weight = _exact(layer.weight) * _per_output(layer, scale)
    layer.bias = nn.Parameter(layer.weight.new_empty(len(bias)).copy_(bias), requires_grad=False)
    layer.weight = nn.Parameter(torch.empty_like(layer.weight).copy_(weight), requires_grad=False)
    network.set_submodule(pair.norm, nn.Identity().eval())


def _exact(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", torch.float64)


def _per_output(layer: nn.Conv2d | nn.Linear, scale: Tensor) -> Tensor:
    """``scale``, one value per output channel, in the form that multiplies the weight of ``layer``."""
    if isinstance(layer, TRANSPOSED):  # [in, out / groups, *kernel], group by group
        scale = scale.view(layer.groups, -1).repeat_interleave(layer.in_channels // layer.groups, dim=0)
    return scale.view(*scale.shape, *[1] * (layer.weight.dim() - scale.dim()))


def _answer(network: nn.Module, images: Tensor) -> Tensor:
    torch.manual_seed(0)  # for a network that draws random numbers
    try:
        answer = network(images)
    except Exception as error:
        raise _NotFolded(f"a copy of the network cannot be run ({first_line(error, 200)})") from error
    if not isinstance(answer, Tensor):
        raise _NotFolded(f"the network returns {type(answer).__name__}, not a tensor")
    return answer


def _check(answer: Tensor, expected: Tensor) -> None:
    error = (_exact(answer) - _exact(expected)).abs().max() / _exact(expected).abs().max()
    if not error <= tolerance(expected):  # NaN fails too
        raise _NotFolded(
            f"the folded network's answers are off by {error.item():.1e} of the largest of the original's"
        )
