"""Adapts networks that steps cannot call directly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dfad_fast.models.reading.answers import find_logits


@dataclass(frozen=True)
class Needs:
    """The adapters that a network needs.

    Attributes:
        contiguous: images in the default layout, not in channels_last.
        own_images: copies of its images, because it changes them in place.
        logits: its logits must be extracted from a dictionary, tuple or object, or from [B, classes, 1, 1].
    """

    contiguous: bool = False
    own_images: bool = False
    logits: bool = False


def adapted(network: nn.Module, needs: Needs) -> nn.Module:
    """A network that maps images to logits, with the adapters in ``needs``; ``network`` itself if it needs none.

    Apart from this both are the same: they share submodules, weights, hooks, modes and other attributes.
    """
    if needs == Needs():
        return network
    # The class cannot be derived from, or an instance attribute replaces the class's method.
    if isinstance(network, torch.jit.ScriptModule) or "forward" in network.__dict__:
        return _Around(network, needs)
    try:
        return _derived(type(network), needs, network.__dict__)
    except TypeError:  # from a class with requirements for subclasses
        return _Around(network, needs)


def _derived(kind: type[nn.Module], needs: Needs, state: dict[str, Any]) -> nn.Module:
    def forward(self: nn.Module, images: Tensor) -> Tensor:
        return _answer(lambda x: kind.forward(self, x), images, needs)

    def reduce(self: nn.Module, _protocol: object) -> tuple[Any, ...]:
        return _derived, (kind, needs, {}), self.__dict__

    members = {"forward": forward, "__reduce_ex__": reduce, "__module__": kind.__module__}
    derived: type[nn.Module] = type(kind.__name__, (kind,), members)
    network = derived.__new__(derived)
    object.__setattr__(network, "__dict__", state)
    return network


class _Around(nn.Module):
    """A wrapper if no class can be derived. Weights keep their names in ``network``."""

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
        # Through a flat view: with one channel, strides of either layout count as contiguous.
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
