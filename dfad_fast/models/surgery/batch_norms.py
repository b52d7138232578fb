"""A network's batch norm layers, each as one op with the activation behind it, while somebody wants it."""

from __future__ import annotations

import copy
import threading
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import Tensor, nn

from dfad_fast.models.reading.data_flow import DataFlow
from dfad_fast.models.surgery.foldable import upwards
from dfad_fast.nn.batch_norm import batch_norm_like
from dfad_fast.private_torch import has_hooks, remove_hooks

# By exact type: a subclass may compute something else. With the dimensions that each takes.
_NORMS: dict[type[nn.Module], tuple[int, ...]] = {
    nn.BatchNorm1d: (2, 3),
    nn.BatchNorm2d: (4,),
    nn.BatchNorm3d: (5,),
}


class FusedBatchNorms:
    """The batch norm layers of ``network`` by :func:`dfad_fast.ops.batch_norm_act`.

    Where a ReLU or LeakyReLU module alone takes what a layer puts out, the two are one op, and the activation passes on
    what it gets; but not where somebody looks in between: a hook, or a reader of the modules ``watched``. Modules,
    weights and hooks stay what they are, and nothing is changed outside ``used()``. A network that cannot be copied or
    traced keeps its activations as they are.
    """

    def __init__(self, network: nn.Module, watched: Collection[str] = ()) -> None:
        norms: list[Any] = [m for m in network.modules() if type(m) in _NORMS and "forward" not in vars(m)]
        pairs = _find_pairs(network, watched) if norms else []
        behind = {pair.norm: pair for pair in pairs}
        self._ran: set[nn.Module] = set()
        self._forwards = {norm: partial(self._normalize, norm, behind.get(norm)) for norm in norms}
        self._forwards |= {pair.activation: partial(_activate, pair) for pair in pairs}
        self._pairs = pairs

    def __str__(self) -> str:
        if not self._ran:
            return ""
        pairs = sum(pair.norm in self._ran and not pair.is_seen for pair in self._pairs)
        return f"{len(self._ran)} as one op, {pairs} of them with the activation behind it"

    @contextmanager
    def used(self) -> Iterator[None]:
        """Within it the network normalizes so."""
        for module, forward in self._forwards.items():
            # Into the dictionary, since nn.Module looks at all that is set as usual.
            module.__dict__["forward"] = forward
        try:
            yield
        finally:
            for module in self._forwards:
                module.__dict__.pop("forward", None)  # another network may hold it too
            for pair in self._pairs:
                pair.made.clear()

    # As for _activate below.
    def _normalize(self, norm: Any, pair: _Pair | None, input: Tensor) -> Tensor:
        if input.dim() not in _NORMS[type(norm)]:
            output: Tensor = type(norm).forward(norm, input)  # which says what is wrong
            return output
        self._ran.add(norm)
        if pair is None or pair.is_seen:
            return batch_norm_like(norm, input, slope=1.0)
        activated = pair.made[threading.get_ident()] = batch_norm_like(norm, input, slope=pair.slope)
        return activated


@dataclass(frozen=True)
class _Pair:
    """``between``: the two, and the modules around one of them only, whose hooks would see what is not there. ``made``:
    for each thread what the norm has activated already, until the activation gets it."""

    norm: nn.Module
    activation: nn.Module
    slope: float
    between: tuple[nn.Module, ...]
    made: dict[int, Tensor] = field(default_factory=dict)

    @property
    def is_seen(self) -> bool:
        """At the moment: hooks come and go."""
        return any(map(has_hooks, self.between))


# Its argument has the name that the module's has, by which some networks call it.
def _activate(pair: _Pair, input: Tensor) -> Tensor:
    # Another network may hold the activation too, and gives it something else.
    if pair.made.get(threading.get_ident()) is not input:
        return type(pair.activation).forward(pair.activation, input)
    del pair.made[threading.get_ident()]
    return input


def _find_pairs(network: nn.Module, watched: Collection[str]) -> list[_Pair]:
    """Batch norm layers and the activations that alone take their output, in training and in eval mode, where no reader
    looks in between. None where a part cannot be traced: what it does with a norm's output is not known."""
    found = [_pairs_of_paths(network, training) for training in (True, False)]
    modules = dict(network.named_modules(remove_duplicate=False))
    counts = Counter(map(id, modules.values()))
    pairs = []
    for norm, activation in found[0] & found[1]:
        ends = modules[norm], modules[activation]
        slope = _slope(ends[1])
        several = any(counts[id(module)] > 1 for module in ends)
        if slope is None or several or any("forward" in vars(module) for module in ends):
            continue
        between = set(upwards(norm)) ^ set(upwards(activation))
        if between.isdisjoint(watched):
            pairs.append(_Pair(*ends, slope, tuple(modules[name] for name in between)))
    return pairs


def _pairs_of_paths(network: nn.Module, training: bool) -> set[tuple[str, str]]:
    try:
        duplicate = copy.deepcopy(network).train(training)
        remove_hooks(duplicate)  # they are not made for symbols
        flow = DataFlow(duplicate)
    except Exception:  # whatever a user's network makes of a copy
        return set()
    if flow.untraceable:
        return set()
    paths = {module: path for path, module in duplicate.named_modules()}
    sources = {path: flow.sole_source(m) for m, path in paths.items() if _slope(m) is not None}
    return {(paths[norm], path) for path, norm in sources.items() if norm and type(norm) in _NORMS}


def _slope(module: nn.Module) -> float | None:
    if type(module) is nn.ReLU:
        return 0.0
    if type(module) is nn.LeakyReLU and 0 <= module.negative_slope <= 1:
        return float(module.negative_slope)
    return None
