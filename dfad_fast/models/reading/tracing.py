"""Watches one forward pass: the activations and blocks that can be tapped, and what ran before and around them."""

from __future__ import annotations

import math
from contextlib import ExitStack

import torch
from torch import Tensor, nn

from dfad_fast.models.reading.calls import ActivationInputs, Products
from dfad_fast.models.reading.events import Event, Run, Tap, Trace
from dfad_fast.models.reading.hooks import first_input, first_output

_MOST_EXTRA_TOKENS = 5  # a class token, a distillation token, four registers


def trace(network: nn.Module, images: Tensor) -> Trace:
    """Runs ``network`` once on ``images`` [B, C, H, W], without gradients, and records it."""
    watcher = _Watcher(images)
    with ExitStack() as stack:
        for path, module in network.named_modules():
            is_leaf = path != "" and next(module.children(), None) is None
            enter = module.register_forward_pre_hook(
                lambda _, inputs, keywords, path=path, is_leaf=is_leaf: watcher.enter(
                    path, is_leaf, first_input(inputs, keywords)
                ),
                with_kwargs=True,
            )
            stack.callback(enter.remove)
            leave = module.register_forward_hook(
                lambda _module, _inputs, output: watcher.leave(first_output(output)), always_call=True
            )
            stack.callback(leave.remove)
        stack.enter_context(ActivationInputs(watcher.see_activation))
        stack.enter_context(Products(watcher.see_product))
        stack.enter_context(torch.no_grad())
        network(images)
    return watcher.trace


class _Watcher:
    def __init__(self, images: Tensor) -> None:
        self.trace = Trace()
        self._batch = len(images)
        self._image_size = (images.shape[-2], images.shape[-1])
        self._running: list[tuple[Run, bool]] = []
        self._counts: dict[str, int] = {}
        self._time = 0
        self._products = 0
        self._activations = 0
        self._products_when_activated = 0
        self._product: tuple[str, tuple[int, ...]] = ("", ())
        self._shrunk = False
        self._end: Event | None = None
        self._latest: tuple[Tap, Tensor] | None = None

    def enter(self, path: str, is_leaf: bool, x: Tensor | None) -> None:
        self._time += 1
        run = Run(path, self._time, self._products, self._activations)
        if x is not None and self._is_map(tap := self._tap(path, None, x), x):
            run.takes = tap.size
            if not is_leaf and self._end is None and self._is_linear() and self._comes_of_latest(x):
                assert self._latest is not None
                self._end = self._event(self._latest[0], is_single=True)
        self._running.append((run, is_leaf))

    def leave(self, x: Tensor | None) -> None:
        self._time += 1
        run, is_leaf = self._running.pop()
        run.products_after, run.activations_after = self._products, self._activations
        if x is None:
            return
        tap = self._tap(run.path, None, x)
        self.trace.outputs[run.path] = tap
        self._latest = (tap, x)
        if not self._is_map(tap, x):
            return
        run.output = tap
        # Pooling after a block does not count as another block.
        pooled = self._end is not None and self._end.tap.size != tap.size
        if self._is_linear() and not is_leaf and not pooled:
            self._end = self._event(tap, is_single=run.is_single)

    def see_activation(self, x: Tensor) -> None:
        self._end = None
        self._activations += 1
        self._products_when_activated = self._products
        run, is_leaf = self._running[-1]
        call = self._counts[run.path] = self._counts.get(run.path, -1) + 1
        if x.dim() in {2, 4} and len(x) == self._batch:
            source = self._latest[0] if run.path == "" and self._latest and self._comes_of_latest(x) else None
            self.trace.events.append(self._event(self._tap(run.path, call, x, is_leaf), source=source))

    def see_product(self, of: str, x: Tensor, result: Tensor) -> None:
        if self._end:
            self.trace.events.append(self._end)
            self._end = None
        self._products += 1
        self._product = (of, tuple(result.shape))
        self._shrunk = of == "conv2d" and result.shape[-2:].numel() < x.shape[-2:].numel()

    def _is_linear(self) -> bool:
        """Whether no activation has run since the last product."""
        return self._products > self._products_when_activated

    def _comes_of_latest(self, x: Tensor) -> bool:
        """Whether ``x`` is the output of the module that ended last, or a copy of it."""
        if self._latest is None:
            return False
        output = self._latest[1]
        return x is output or (x.shape == output.shape and torch.equal(x, output))

    def _is_map(self, tap: Tap, x: Tensor) -> bool:
        return len(tap.shape) == 3 and len(x) == self._batch

    def _event(self, tap: Tap, is_single: bool = False, source: Tap | None = None) -> Event:
        inside = tuple(run for run, is_leaf in self._running if not is_leaf)
        return Event(tap, self._time, self._products, inside, is_single, self._shrunk, source)

    def _tap(self, path: str, call: int | None, x: Tensor, is_module: bool = False) -> Tap:
        shape = tuple(x.shape[1:])
        if x.dim() == 4 and self._puts_channels_last(shape):
            return Tap(path, call, (shape[2], shape[0], shape[1]), is_module, channels_last=True)
        if x.dim() == 3 and len(x) == self._batch and (grid := _grid(shape[0], self._image_size)):
            extra, height, width = grid
            return Tap(path, call, (shape[1], height, width), is_module, extra_tokens=extra)
        return Tap(path, call, shape, is_module)

    def _puts_channels_last(self, shape: tuple[int, ...]) -> bool:
        """Whether channels are last: in a linear layer's output on positions, or a convolution's if permuted."""
        of, product = self._product
        if shape[-1] == shape[0]:
            return False
        if of == "linear":
            return len(product) > 2 and product[-1] == shape[-1]
        return len(product) == 4 and (*product[2:], product[1]) == shape


def _grid(tokens: int, image_size: tuple[int, int]) -> tuple[int, int, int] | None:
    """The number of extra tokens, and height and width of the others, which have the image's proportions."""
    image_height, image_width = image_size
    for extra in range(_MOST_EXTRA_TOKENS + 1):
        height = math.isqrt(max(tokens - extra, 0) * image_height // image_width)
        if height < 2:
            return None
        width, rest = divmod(tokens - extra, height)
        if rest == 0 and height * image_width == width * image_height:
            return extra, height, width
    return None
