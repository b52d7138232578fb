"""Finds, by symbolic tracing, modules whose output goes into exactly one other module."""

from __future__ import annotations

import operator
import threading
from collections.abc import Callable, Collection, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn

# Layers whose output is not a view of their input.
_MAKES_ANEW = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)

# While tracing runs, it replaces the call of every module in the process.
_one_at_a_time = threading.Lock()


class User(NamedTuple):
    """``module``, the only user of another module's output; ``added``: whether something is added before it.

    ``before`` and ``behind``: the modules that pass on that output, and its sum, unchanged.
    """

    module: nn.Module
    added: bool
    before: tuple[nn.Module, ...]
    behind: tuple[nn.Module, ...]


class DataFlow:
    """The calls of ``network``'s basic modules (convolutions, norms, activations) and the users of each output.

    If the whole network cannot be traced, for example because control flow depends on the data, its parts are traced,
    and then the code between them with the untraceable parts as black boxes. Running ``forward`` on symbols may leave
    some in a network that stores its results: pass a copy.
    """

    def __init__(self, network: nn.Module) -> None:
        self._calls: dict[nn.Module, list[fx.Node]] = {}
        self._module_at: dict[fx.Node, nn.Module] = {}
        self._read: set[int] = set()
        self._opaque: set[nn.Module] = set()
        self._takers: dict[fx.Node, set[nn.Module]] = {}
        self._kept: set[fx.Node] = set()
        # Through a caller, the network gets its optional arguments' defaults instead of symbols.
        self._follow(network, _Caller(network))

    @property
    def untraceable(self) -> bool:
        """Whether some parts could not be traced."""
        return bool(self._opaque)

    def sole_source(self, module: nn.Module) -> nn.Module | None:
        """The module whose output is the only input of ``module`` at every call, and goes nowhere else."""
        sources = {self._source(node) for node in self._calls.get(module, [])}
        source = sources.pop() if len(sources) == 1 else None
        if source is None:
            return None
        goes_elsewhere = any(
            [self._module_at.get(user) for user in node.users] != [module] for node in self._calls[source]
        )
        return None if goes_elsewhere else source

    def sole_user(self, module: nn.Module) -> User | None:
        """The only user of the output of ``module``, at every call.

        If something is added before it, ``module`` runs once and nothing else holds its input or a view of it. It may
        then run later, when the other summand is computed.
        """
        calls = self._calls.get(module, [])
        found = {self._user(node) for node in calls}
        user = found.pop() if len(found) == 1 else None
        if user is not None and user.added:
            alone = len(calls) == 1 and all(map(self._is_nobody_elses, calls[0].all_input_nodes))
            return user if alone else None
        return user

    def reads_inside(self, module: nn.Module) -> bool:
        """Whether anything except ``module`` itself reads its parameters or buffers."""
        return any(id(tensor) in self._read for tensor in (*module.parameters(), *module.buffers()))

    def _user(self, node: fx.Node) -> User | None:
        before: set[nn.Module] = set()
        behind: set[nn.Module] = set()
        added = False
        while True:
            (behind if added else before).update(self._takers.get(node, ()))
            user = _only(node.users)
            if user is None or node in self._kept:
                return None
            module = self._module_at.get(user)
            if not added and _adds(user, node):
                added = True
            elif module is None or [*user.args, *user.kwargs.values()] != [node]:
                return None
            elif type(module) is nn.Identity:
                (behind if added else before).add(module)
            else:
                return User(module, added, tuple(before), tuple(behind))
            node = user

    def _is_nobody_elses(self, node: fx.Node) -> bool:
        """Whether only one module holds this tensor, from the layer that made it on."""
        module = self._module_at.get(node)
        if module is None or _only(node.users) is None or node in self._kept:
            return False
        inputs = node.all_input_nodes
        return isinstance(module, _MAKES_ANEW) or (len(inputs) == 1 and self._is_nobody_elses(inputs[0]))

    def _source(self, node: fx.Node) -> nn.Module | None:
        given = [*node.args, *node.kwargs.values()]
        return self._module_at.get(given[0]) if len(given) == 1 and isinstance(given[0], fx.Node) else None

    def _follow(self, module: nn.Module, entry: nn.Module) -> None:
        if _is_basic(module) or self._trace(entry):
            return
        for child in module.children():
            self._follow(child, child)
        if not (self._opaque.intersection(module.modules()) and self._trace(entry)):
            self._opaque.add(module)

    def _trace(self, entry: nn.Module) -> bool:
        tracer = _Tracer(self._opaque, self._read)
        try:
            with _one_at_a_time:
                tracer.trace(entry)
        except Exception:  # a user's forward may raise anything on symbols
            return False
        for node, module in tracer.module_at.items():
            self._calls.setdefault(module, []).append(node)
        self._module_at.update(tracer.module_at)
        self._takers.update(tracer.takers)
        for module in entry.modules():
            self._kept.update(_nodes(list(vars(module).values())))
        return True


class _Caller(nn.Module):
    """Calls ``network`` the usual way: with only the images."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Any:
        return self.network(images)


class _Tracer(fx.Tracer):
    """Also records the module of each node, the modules it passes through, and the module tensors that are read.

    Module calls from other threads arrive here too and run unchanged.
    """

    def __init__(self, opaque: set[nn.Module], read: set[int]) -> None:
        super().__init__()
        self._opaque = opaque
        self._read = read
        self._thread = threading.get_ident()
        self.module_at: dict[fx.Node, nn.Module] = {}
        self.takers: dict[fx.Node, set[nn.Module]] = {}

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return m in self._opaque or super().is_leaf_module(m, module_qualified_name)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if threading.get_ident() != self._thread:
            return forward(*args, **kwargs)
        result = super().call_module(m, forward, args, kwargs)
        if not self.is_leaf_module(m, self.path_of_module(m)):
            for node in _nodes([args, kwargs, result]):
                self.takers.setdefault(node, set()).add(m)
        elif isinstance(result, fx.Proxy):
            self.module_at[result.node] = m
        return result

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, fx.Proxy]) -> Any:
        if isinstance(attr_val, Tensor):
            self._read.add(id(attr_val))
        return super().getattr(attr, attr_val, parameter_proxy_cache)


def _nodes(values: Any) -> Iterator[fx.Node]:
    """The nodes of all symbols in nested containers."""
    if isinstance(values, fx.Proxy):
        yield values.node
    elif isinstance(values, (list, tuple, dict)):
        for value in values.values() if isinstance(values, dict) else values:
            yield from _nodes(value)


def _only(users: Collection[fx.Node]) -> fx.Node | None:
    return next(iter(users)) if len(users) == 1 else None


def _adds(user: fx.Node, node: fx.Node) -> bool:
    """Whether ``user`` is ``node`` with something else added. A symbol's ``+=`` is written as ``+``."""
    added = user.op == "call_function" and user.target in (operator.add, torch.add)
    return added and user.args.count(node) == 1 and len(user.args) == 2 and not user.kwargs


def _is_basic(module: nn.Module) -> bool:
    return next(module.children(), None) is None and fx.Tracer().is_leaf_module(module, "")
