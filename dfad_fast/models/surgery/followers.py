"""What comes right behind a network's layers: an activation, with a sum before it or not."""

from __future__ import annotations

import copy
import threading
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field

from torch import Tensor, nn

from dfad_fast.models.reading.data_flow import DataFlow
from dfad_fast.models.surgery.foldable import upwards
from dfad_fast.private_torch import has_hooks, remove_hooks, saves_by_hooks


@dataclass(frozen=True)
class Follower:
    """The activation that alone takes what ``layer`` puts out, or its sum with something where ``added``.

    ``around_layer`` and ``around_activation``: the modules that are around one of the two only, and it itself, whose
    hooks would see what is not there. ``watched``: whether readers have hooks there at times. ``made``: for each
    thread what was activated already, until the activation gets it.
    """

    layer: nn.Module
    activation: nn.Module
    slope: float
    added: bool
    around_layer: tuple[nn.Module, ...]
    around_activation: tuple[nn.Module, ...]
    watched: bool
    made: dict[int, Tensor] = field(default_factory=dict)

    @property
    def layer_is_seen(self) -> bool:
        """At the moment: hooks come and go."""
        return any(map(has_hooks, self.around_layer))

    @property
    def sum_is_seen(self) -> bool:
        """What the activation is to get. A checkpointed network runs again when readers' hooks are gone, and has to
        keep the same tensors then."""
        return any(map(has_hooks, self.around_activation)) or (self.watched and saves_by_hooks())

    def activated(self, made: Tensor) -> Tensor:
        """Notes that this was activated."""
        self.made[threading.get_ident()] = made
        return made

    def was_activated(self, x: Tensor) -> bool:
        """Whether it was; once. Others may hold the activation too, and give it something else."""
        if self.made.get(threading.get_ident()) is not x:
            return False
        del self.made[threading.get_ident()]
        return True


def find_followers(
    network: nn.Module, kinds: Collection[type[nn.Module]], watched: Collection[str]
) -> list[Follower]:
    """Those of all layers of these ``kinds``, by exact type, that have the same one in training and in eval mode.

    None where a part cannot be traced, for what it does with a layer's output is not known, and where a network cannot
    be copied. ``watched``: paths of modules on which readers have hooks at times.
    """
    found = _paths(network, kinds, training=True) & _paths(network, kinds, training=False)
    modules = dict(network.named_modules(remove_duplicate=False))
    counts = Counter(map(id, modules.values()))
    followers = []
    for layer, activation, added, passed in found:
        ends = modules[layer], modules[activation]
        slope = _slope(ends[1])
        several = any(counts[id(module)] > 1 for module in ends)
        if slope is None or several or any("forward" in vars(module) for module in ends):
            continue
        above_layer, above_activation = set(upwards(layer)), set(upwards(activation))
        around_layer = (above_layer - above_activation).union(passed)
        around_activation = above_activation - above_layer
        followers.append(
            Follower(
                *ends,
                slope,
                added,
                tuple(modules[name] for name in around_layer),
                tuple(modules[name] for name in around_activation),
                not (around_layer | around_activation).isdisjoint(watched),
            )
        )
    return followers


def _paths(
    network: nn.Module, kinds: Collection[type[nn.Module]], training: bool
) -> set[tuple[str, str, bool, tuple[str, ...]]]:
    """Of each layer with a follower and of that, whether something is added, and of what it passes through."""
    try:
        duplicate = copy.deepcopy(network).train(training)
        remove_hooks(duplicate)  # they are not made for symbols
        flow = DataFlow(duplicate)
    except Exception:  # whatever a user's network makes of a copy
        return set()
    if flow.untraceable:
        return set()
    paths = {module: path for path, module in duplicate.named_modules()}
    users = ((path, flow.sole_user(module)) for module, path in paths.items() if type(module) in kinds)
    return {
        (path, paths[user.module], user.added, tuple(paths[module] for module in user.passed))
        for path, user in users
        if user and _slope(user.module) is not None
    }


def _slope(module: nn.Module) -> float | None:
    if type(module) is nn.ReLU:
        return 0.0
    if type(module) is nn.LeakyReLU and 0 <= module.negative_slope <= 1:
        return float(module.negative_slope)
    return None
