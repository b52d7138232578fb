"""A network as steps can call it, where it needs something around it."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dfad_fast.models.answers import find_logits


@dataclass(frozen=True)
class Needs:
    """What a network needs around it.

    Attributes:
        contiguous: images in the usual layout, not in channels_last.
        own_images: images of its own, since it works on them in place.
        logits: that its logits are taken out of a dictionary, tuple or object.
    """

    contiguous: bool = False
    own_images: bool = False
    logits: bool = False


def adapted(network: nn.Module, needs: Needs) -> nn.Module:
    """A network that answers images with logits, whatever ``needs`` says; ``network`` itself where it needs nothing.

    The two share their submodules, weights and hooks, and the names of these.
    """
    if needs == Needs():
        return network
    if isinstance(network, torch.jit.ScriptModule):
        return _Around(network, needs)
    kind = type(network)

    def forward(self: nn.Module, images: Tensor) -> Tensor:
        return _answer(lambda x: kind.forward(self, x), images, needs)

    near = copy.copy(network)
    near.__class__ = type(kind.__name__, (kind,), {"forward": forward, "__module__": kind.__module__})
    return near


class _Around(nn.Module):
    """For classes that cannot be derived from. Weights keep the names that they have in ``network``."""

    def __init__(self, network: nn.Module, needs: Needs) -> None:
        super().__init__()
        self.network = network
        self._needs = needs

    def forward(self, images: Tensor) -> Tensor:
        return _answer(self.network, images, self._needs)

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        return self.network.state_dict(*args, **kwargs)

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        return self.network.load_state_dict(*args, **kwargs)


def _answer(ask: Any, images: Tensor, needs: Needs) -> Tensor:
    if needs.contiguous:
        # Through a flat view: of one channel, strides of either layout count as contiguous.
        images = images.contiguous().view(-1).view(images.shape)
    if needs.own_images:
        images = images.clone()
    answer = ask(images)
    if not needs.logits:
        return answer
    logits = find_logits(answer, len(images))
    if logits is None:
        raise TypeError(f"no logits [{len(images)}, classes] in an answer of {type(answer).__name__}")
    return logits
