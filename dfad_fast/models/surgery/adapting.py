"""A network as steps can call it, where it needs something around it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dfad_fast.models.reading.answers import find_logits


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

    The two are one in all but that: they share submodules, weights, hooks, modes and other attributes.
    """
    if needs == Needs():
        return network
    # A class that cannot be derived from, or a method that was put over that of the class.
    if isinstance(network, torch.jit.ScriptModule) or "forward" in network.__dict__:
        return _Around(network, needs)
    try:
        return _derived(type(network), needs, network.__dict__)
    except TypeError:  # of a class that wants more of its subclasses
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
    """Where no class can be derived. Weights keep the names that they have in ``network``."""

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
