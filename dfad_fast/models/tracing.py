"""One forward pass, watched: which activations and blocks could be tapped, and what ran before and around them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

# Sigmoids are left out: they gate, and the sign of their input is no on/off state of a neuron.
_ACTIVATIONS = frozenset(
    {
        "relu",
        "relu_",
        "relu6",
        "leaky_relu",
        "leaky_relu_",
        "prelu",
        "rrelu",
        "elu",
        "elu_",
        "selu",
        "celu",
        "gelu",
        "silu",
        "mish",
        "hardswish",
        "hardtanh",
        "tanh",
        "tanh_",
    }
)
_PRODUCTS = frozenset({"conv1d", "conv2d", "conv3d", "linear"})


@dataclass(frozen=True)
class Tap:
    """One place to read features from.

    ``shape`` is one image's: [C, H, W] or [C]. ``is_module``: whether ``path`` is a module without children,
    such as ``nn.ReLU``, and not a block that calls an activation function. ``channels_last``: whether the network
    itself has the features as [B, H, W, C].
    """

    path: str
    call: int | None
    shape: tuple[int, ...]
    is_module: bool = False
    channels_last: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """Height and width; (1, 1) for features without them."""
        return (self.shape[1], self.shape[2]) if len(self.shape) == 3 else (1, 1)

    def __str__(self) -> str:
        return self.path if self.call is None else f"{self.path}#{self.call}"


@dataclass(eq=False)
class Run:
    """One run of a module with children: when it began, how many products had run by then, its output's size."""

    path: str
    began: int
    products: int
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Event:
    """An activation, or the end of a block that the next product takes without an activation between them.

    ``products``: how many convolutions and linear layers had run; ``inside``: the blocks it is in, outermost first.
    """

    tap: Tap
    time: int
    products: int
    inside: tuple[Run, ...]


@dataclass
class Trace:
    """Events in order, every activation by the path it ran in, and what each module put out (at its last run)."""

    events: list[Event] = field(default_factory=list)
    outputs: dict[str, Tap] = field(default_factory=dict)

    @property
    def activations(self) -> list[Tap]:
        return [event.tap for event in self.events if event.tap.call is not None]


class ActivationInputs(TorchFunctionMode):
    """Shows the input of every activation function that is called to ``see``, before it runs."""

    def __init__(self, see: Callable[[Tensor], None]) -> None:
        super().__init__()
        self._see = see

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in _ACTIVATIONS:
            x = args[0] if args else kwargs["input"]
            inplace = name.endswith("_") or kwargs.get("inplace") or any(arg is True for arg in args[1:])
            # An activation in place would overwrite what was seen.
            self._see(x.clone() if inplace else x)
        return func(*args, **kwargs)


class _Products(TorchFunctionMode):
    """Shows the result of every convolution and linear layer to ``see``, with the function's name before it."""

    def __init__(self, see: Callable[[str, Tensor], None]) -> None:
        super().__init__()
        self._see = see

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        if name in _PRODUCTS:
            self._see(name, result)
        return result


def trace(network: nn.Module, images: Tensor) -> Trace:
    """Watches ``network`` take ``images`` [B, C, H, W] once, without gradients."""
    watcher = _Watcher(len(images))
    with ExitStack() as stack:
        for path, module in network.named_modules():
            is_leaf = path != "" and next(module.children(), None) is None
            enter = module.register_forward_pre_hook(
                lambda *_, path=path, is_leaf=is_leaf: watcher.enter(path, is_leaf)
            )
            stack.callback(enter.remove)
            leave = module.register_forward_hook(
                lambda _module, _inputs, output: watcher.leave(output), always_call=True
            )
            stack.callback(leave.remove)
        stack.enter_context(ActivationInputs(watcher.see_activation))
        stack.enter_context(_Products(watcher.see_product))
        stack.enter_context(torch.no_grad())
        network(images)
    return watcher.trace


class _Watcher:
    def __init__(self, batch: int) -> None:
        self.trace = Trace()
        self._batch = batch
        self._running: list[tuple[Run, bool]] = []
        self._counts: dict[str, int] = {}
        self._time = 0
        self._products = 0
        self._products_when_activated = 0
        self._product: tuple[str, tuple[int, ...]] = ("", ())
        self._end: Event | None = None

    def enter(self, path: str, is_leaf: bool) -> None:
        self._time += 1
        self._running.append((Run(path, self._time, self._products), is_leaf))

    def leave(self, output: Any) -> None:
        self._time += 1
        run, is_leaf = self._running.pop()
        if not isinstance(output, Tensor):
            return
        tap = self._tap(run.path, None, output)
        self.trace.outputs[run.path] = tap
        if output.dim() != 4:
            return
        run.size = tap.size
        linear = self._products > self._products_when_activated and len(output) == self._batch
        # Pooling after a block makes no further one.
        pooled = self._end is not None and self._end.tap.size != tap.size
        if linear and not is_leaf and not pooled:
            self._end = self._event(tap)

    def see_activation(self, x: Tensor) -> None:
        self._end = None
        self._products_when_activated = self._products
        run, is_leaf = self._running[-1]
        call = self._counts[run.path] = self._counts.get(run.path, -1) + 1
        if x.dim() in {2, 4} and len(x) == self._batch:
            self.trace.events.append(self._event(self._tap(run.path, call, x, is_leaf)))

    def see_product(self, of: str, result: Tensor) -> None:
        if self._end:
            self.trace.events.append(self._end)
            self._end = None
        self._products += 1
        self._product = (of, tuple(result.shape))

    def _event(self, tap: Tap) -> Event:
        inside = tuple(run for run, is_leaf in self._running if not is_leaf)
        return Event(tap, self._time, self._products, inside)

    def _tap(self, path: str, call: int | None, x: Tensor, is_module: bool = False) -> Tap:
        shape = tuple(x.shape[1:])
        if x.dim() == 4 and self._puts_channels_last(shape):
            return Tap(path, call, (shape[2], shape[0], shape[1]), is_module, channels_last=True)
        return Tap(path, call, shape, is_module)

    def _puts_channels_last(self, shape: tuple[int, ...]) -> bool:
        """What has just come of a linear layer on positions has its channels last; of a convolution, if permuted."""
        of, product = self._product
        if shape[-1] == shape[0]:
            return False
        if of == "linear":
            return len(product) > 2 and product[-1] == shape[-1]
        return len(product) == 4 and (*product[2:], product[1]) == shape
