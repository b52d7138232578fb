"""A network's batch norm layers, each as one op with what comes behind it, while somebody wants it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from dfad_fast.models.surgery.followers import NORMS, Follower, find_followers
from dfad_fast.nn.batch_norm import batch_norm_like

_Run = Callable[[Tensor, Tensor | None, float], Tensor]


class FusedBatchNorms:
    """The batch norm layers of ``network`` by :func:`dfad_fast.ops.batch_norm_act`.

    Where a ReLU or LeakyReLU module alone takes what a layer puts out, or its sum with something, they are one op, and
    the activation passes on what it gets; but not where somebody looks in between: a hook, as those of a reader of the
    modules ``watched``. Modules, weights and hooks stay what they are, and nothing is changed outside ``used()``. A
    network that cannot be copied or traced keeps its sums and activations as they are.
    """

    def __init__(self, network: nn.Module, watched: Collection[str] = ()) -> None:
        norms: list[Any] = [m for m in network.modules() if type(m) in NORMS and "forward" not in vars(m)]
        self._followers = find_followers(network, watched) if norms else []
        behind = {follower.norm: follower for follower in self._followers}
        activations: dict[nn.Module, list[Follower]] = {}
        for follower in self._followers:
            activations.setdefault(follower.activation, []).append(follower)
        self._ran: dict[nn.Module, tuple[bool, bool]] = {}  # with a sum, with an activation
        self._forwards = {norm: partial(self._normalize, norm, behind.get(norm)) for norm in norms}
        self._forwards |= {
            module: partial(_activate, module, followers) for module, followers in activations.items()
        }

    def __str__(self) -> str:
        if not self._ran:
            return ""
        added, activated = (sum(column) for column in zip(*self._ran.values(), strict=True))
        return f"{len(self._ran)} as one op, {added} of them with a sum, {activated} with the activation behind it"

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
            for follower in self._followers:
                follower.made.clear()

    # Its argument has the name that the module's has, by which some networks call it; so has that of _activate.
    def _normalize(self, norm: Any, behind: Follower | None, input: Tensor) -> Any:
        if input.dim() not in NORMS[type(norm)]:
            return type(norm).forward(norm, input)  # which says what is wrong
        if behind is None or behind.norm_is_seen:
            return self._run(norm, input, None, 1.0)
        if behind.added:
            return _Summand(input, behind, partial(self._run, norm))
        if behind.sum_is_seen:
            return self._run(norm, input, None, 1.0)
        return behind.activated(self._run(norm, input, None, behind.slope))

    def _run(self, norm: Any, x: Tensor, residual: Tensor | None, slope: float) -> Tensor:
        self._ran[norm] = residual is not None, slope != 1
        return batch_norm_like(norm, x, residual, slope)


class _Summand:
    """What a norm puts out, before something is added to it, which is all that happens to it.

    ``run``: gives the norm's output with a residual added, which may be none, and an activation with this slope.
    """

    def __init__(self, x: Tensor, behind: Follower, run: _Run) -> None:
        self._x = x
        self._behind = behind
        self._run = run

    def __add__(self, other: Any) -> Tensor:
        if isinstance(other, _Summand):
            other = other.alone()
        kind = (self._x.shape, self._x.dtype, self._x.device)
        if not isinstance(other, Tensor) or (other.shape, other.dtype, other.device) != kind:
            total: Tensor = self.alone() + other
            return total
        if self._behind.sum_is_seen:
            return self._run(self._x, other, 1.0)
        return self._behind.activated(self._run(self._x, other, self._behind.slope))

    # A new tensor is as good as the norm's own, which nobody else has.
    __radd__ = __iadd__ = __add__

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Called for what torch does with it. That adds, too, in the place of the other: then this is a tensor."""
        if func in (torch.add, Tensor.add) and len(args) == 2 and not kwargs:
            first, second = args
            return first + second if isinstance(first, cls) else second + first
        return func(*(arg.alone() if isinstance(arg, cls) else arg for arg in args), **(kwargs or {}))

    def alone(self) -> Tensor:
        """The norm's output."""
        return self._run(self._x, None, 1.0)


def _activate(activation: nn.Module, followers: Sequence[Follower], input: Tensor) -> Tensor:
    if any(follower.was_activated(input) for follower in followers):
        return input
    output: Tensor = type(activation).forward(activation, input)
    return output
