"""Finds the activation directly behind a layer, with or without a sum before it."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dfad_fast.models.reading.data_flow import DataFlow, User
from dfad_fast.models.surgery.foldable import NORMS
from dfad_fast.private_torch import has_global_hooks, has_hooks, remove_hooks, saves_by_hooks

_MARK = "_dfad_fast_activated_for"


@dataclass(frozen=True)
class Follower:
    """The activation that is the only user of the output of ``layer`` or, if ``added``, of its sum with something.

    ``before`` and ``behind``: the modules whose hooks would see the layer's output, and the sum.
    """

    layer: nn.Module
    activation: nn.Module
    slope: float
    added: bool
    before: tuple[nn.Module, ...]
    behind: tuple[nn.Module, ...]

    @property
    def layer_is_seen(self) -> bool:
        """Whether a hook sees the layer's output now; hooks come and go.

        A checkpointed network must save the same tensors when it runs again, perhaps without the hooks of its first
        run.
        """
        return has_global_hooks() or any(map(has_hooks, self.before)) or saves_by_hooks()

    @property
    def sum_is_seen(self) -> bool:
        """Whether a hook sees the activation's input now."""
        return any(map(has_hooks, self.behind))

    def activated(self, made: Tensor) -> Tensor:
        """Marks an already activated tensor for the activation."""
        setattr(made, _MARK, self.activation)
        return made


# Its argument has the modules' argument name, which some networks use as a keyword.
def activate(activation: Any, input: Tensor) -> Tensor:
    """Applies ``activation`` unless ``input`` is marked as activated. Another network may share the activation."""
    if getattr(input, _MARK, None) is not activation:
        output: Tensor = type(activation).forward(activation, input)
        return output
    delattr(input, _MARK)
    return input if torch.is_grad_enabled() else input.detach()


def find_followers(network: nn.Module, kinds: Collection[type[nn.Module]]) -> list[Follower]:
    """The followers of all layers of these ``kinds``, by exact type, that are the same in training and eval mode.

    Empty if a part cannot be traced, because its use of a layer's output is unknown, or if a network cannot be copied.
    """
    if has_global_hooks():  # which cannot handle symbols
        return []
    modules = dict(network.named_modules(remove_duplicate=False))
    counts = Counter(map(id, modules.values()))
    training, evaluating = (_users(network, kinds, mode) for mode in (True, False))
    followers = []
    for path, (activation, added, before, behind) in training.items():
        layer, module = modules[path], modules[activation]
        slope = _slope(module)
        alike = evaluating.get(path) == (activation, added, before, behind)
        several = any(counts[id(end)] > 1 for end in (layer, module))
        if slope is None or not alike or several or any("forward" in vars(end) for end in (layer, module)):
            continue
        # A LeakyReLU saves its input, and its result may change in place; if the op saves the result, it must not
        # change.
        if slope != 0 and not module.inplace and (added or type(layer) not in NORMS):
            continue
        seen_before, seen_behind = [modules[name] for name in before], [modules[name] for name in behind]
        (seen_behind if added else seen_before).append(module)
        followers.append(Follower(layer, module, slope, added, (layer, *seen_before), tuple(seen_behind)))
    return followers


_Found = tuple[str, bool, frozenset[str], frozenset[str]]


def _users(network: nn.Module, kinds: Collection[type[nn.Module]], training: bool) -> dict[str, _Found]:
    """Finds the follower of each layer that has one.

    For each such layer: the follower, whether something is added, the modules that pass on the layer's output, and
    those that pass on the sum.
    """
    try:
        duplicate = copy.deepcopy(network).train(training)
        remove_hooks(duplicate)  # they cannot handle symbols
        with torch.no_grad():  # as in all checks before the run
            flow = DataFlow(duplicate)
    except Exception:  # a copy of a user's network may raise anything
        return {}
    if flow.untraceable:
        return {}
    paths = {module: path for path, module in duplicate.named_modules()}

    def named(user: User) -> _Found:
        before, behind = (
            frozenset(paths[module] for module in group) for group in (user.before, user.behind)
        )
        return paths[user.module], user.added, before, behind

    users = {path: flow.sole_user(module) for module, path in paths.items() if type(module) in kinds}
    return {path: named(user) for path, user in users.items() if user and _slope(user.module) is not None}


def _slope(module: nn.Module) -> float | None:
    if type(module) is nn.ReLU:
        return 0.0
    if type(module) is nn.LeakyReLU and 0 <= module.negative_slope <= 1:
        return float(module.negative_slope)
    return None
