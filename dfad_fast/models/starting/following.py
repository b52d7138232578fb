"""Follows every channel of a network through one forward pass.

Each tensor gets a companion of its shape that holds the channel of every position. Operations that only move values
move the companion in the same way, so that flattened maps, shuffled channels, padded shortcuts and dense connections
need no separate rules. Elementwise operations join the channels of their operands.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from dfad_fast.models.reading.check import left_as_it_was
from dfad_fast.models.reading.hooks import first_input, first_output
from dfad_fast.models.starting.channels import Classes, Layer, Map, Use, producers_of
from dfad_fast.models.starting.companions import Companions, use_of
from dfad_fast.models.starting.moves import moved, reduced
from dfad_fast.private_torch import TorchDispatchMode

IMAGES = ""
"""The producer of the images' channels, in place of a layer's path."""


def follow(network: nn.Module, images: Tensor) -> Map:
    """Runs ``network`` once on ``images`` [B, C, H, W], in eval mode and without gradients, and leaves it unchanged.

    Follows everything that the network computes: it runs on real tensors, not on symbols.
    """
    shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {}

    def see(path: str, inputs: tuple[Any, ...], keywords: dict[str, Any], output: Any) -> None:
        x, y = first_input(inputs, keywords), first_output(output)
        if x is not None and y is not None:
            shapes[path] = tuple(x.shape[1:]), tuple(y.shape[1:])

    follower = _Follower(network)
    with ExitStack() as stack:
        stack.enter_context(left_as_it_was(network))
        for path, module in network.named_modules():
            hook = module.register_forward_hook(
                lambda _, inputs, keywords, output, path=path: see(path, inputs, keywords, output),
                with_kwargs=True,
            )
            stack.callback(hook.remove)
        network.eval()
        stack.enter_context(torch.no_grad())
        stack.enter_context(follower.at(images))
        network(images)
    producers = producers_of(follower.classes, follower.made.items())
    return Map(follower.layers, follower.classes, producers, shapes)


class _Follower(TorchDispatchMode):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.classes = Classes()
        self.layers: dict[str, Layer] = {}
        self.made: dict[str, Tensor] = {}
        self._companions = Companions(self.classes)
        self._names = {
            _place(tensor): name
            for name, tensor in (*network.named_buffers(), *network.named_parameters())
            if tensor.numel()
        }
        self._shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}

    def at(self, images: Tensor) -> _Follower:
        """Returns self, with the images' channels as the first ones."""
        self.made[IMAGES] = self.classes.make(images.shape[1])
        self._companions.set(images, self.made[IMAGES], 1)
        return self

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        name = func.overloadpacket.__name__
        rule = _RULES.get(name)
        if rule is not None:
            rule(self, args, result)
        elif (companions := moved(func, args, kwargs, self._companions)) is not None:
            self._companions.keep_all(result, companions)
        elif (companion := reduced(name, args, kwargs, self._companions)) is not None:
            self._companions.keep_all(result, [companion])
        else:
            self._calculated(name, (*args, *kwargs.values()), result)
        return result

    def _convolution(self, args: tuple[Any, ...], result: Tensor) -> None:
        x, weight, bias, strides, _, _, transposed, _, groups = args
        name = self._name(weight)
        if name is None or transposed:
            return
        taken = self._companions.along(x, 1)
        is_depthwise = groups == x.shape[1] == result.shape[1]
        form = "depthwise" if is_depthwise else "grouped" if groups > 1 else "whole"
        kind, geometry = ("convolution", form), (tuple(weight.shape[2:]), tuple(strides))
        if is_depthwise:
            made = taken
            self._use(name, kind, Use({0: taken}), geometry)
        else:
            made = self._make(name, result.shape[1])
            self._use(name, kind, Use({0: made, 1: taken}, groups), geometry)
        self._use(self._name(bias), kind, Use({0: made}))
        self._companions.set(result, made, 1)

    def _linear(self, x: Tensor, weight: Tensor, bias: Tensor | None, result: Tensor) -> bool:
        name = self._name(weight)
        if name is None:
            return False
        made = self._make(name, result.shape[-1])
        kind = ("linear",)
        self._use(name, kind, Use({0: made, 1: self._companions.along(x, x.dim() - 1)}))
        self._use(self._name(bias), kind, Use({0: made}))
        self._companions.set(result, made, result.dim() - 1)
        return True

    def _product(self, args: tuple[Any, ...], result: Tensor) -> None:
        """A matrix product, of a linear layer or of two computed matrices: it sums over their common dimension."""
        *bias, x, weight = args[:3]
        if self._linear(x, weight, bias[0] if bias else None, result):
            return
        self._companions.join_summed(x, weight)
        self._companions.keep_all(result, [self._companions.columns(weight, result.shape)])

    def _attention(self, args: tuple[Any, ...], result: Any) -> None:
        query, key, value = args[:3]
        self._companions.join_summed(query, key.transpose(-1, -2), self._companions.get(key))
        first = result[0] if isinstance(result, (tuple, list)) else result
        self._companions.keep_all(first, [self._companions.columns(value, first.shape)])

    def _norm(self, kind: str, dim: int, args: tuple[Any, ...], result: Any) -> None:
        x, y = args[0], result[0] if isinstance(result, (tuple, list)) else result
        own = self._companions.along(x, dim % x.dim())
        for tensor in args[1:]:
            if isinstance(tensor, Tensor) and tensor.numel() == len(own):
                self._use(self._name(tensor), (kind,), Use({0: own}))
        self._companions.set(y, own, dim % x.dim())

    def _calculated(self, name: str, args: tuple[Any, ...], result: Any) -> None:
        """An operation on elements, or on windows, which keep a map's channels."""
        given = [x for arg in args for x in (arg if isinstance(arg, (tuple, list)) else [arg])]
        tensors = [x for x in given if isinstance(x, Tensor)]
        for made in result if isinstance(result, (tuple, list)) else [result]:
            if not isinstance(made, Tensor):
                continue
            companion = self._companions.met(tensors, made)
            if companion is None:
                continue
            self._companions.keep_all(made, [companion])
            for tensor in tensors:
                if (own := self._name(tensor)) is not None:
                    self._use(own, ("scale",), use_of(tensor, companion, self._shapes[own]))

    def _name(self, tensor: Tensor | None) -> str | None:
        name = None if tensor is None else self._names.get(_place(tensor))
        if tensor is None or name is None or name not in self._shapes:
            return None
        return name if self._shapes[name].numel() == tensor.numel() else None

    def _make(self, name: str, count: int) -> Tensor:
        path = name.rpartition(".")[0]
        if path not in self.made:
            self.made[path] = self.classes.make(count)
        return self.made[path]

    def _use(
        self,
        name: str | None,
        kind: tuple[str, ...],
        use: Use | None,
        geometry: tuple[tuple[int, ...], ...] = (),
    ) -> None:
        if name is None or use is None:
            return
        path, _, own = name.rpartition(".")
        layer = self.layers.setdefault(path, Layer(path, kind, geometry))
        if own in layer.uses:
            for dim, channels in layer.uses[own].channels.items():
                self.classes.join(channels, use.channels.get(dim, channels))
        else:
            layer.uses[own] = use


def _place(tensor: Tensor) -> tuple[int, Any]:
    """Equal for a parameter and its views."""
    return tensor.untyped_storage().data_ptr(), tensor.storage_offset()


_RULES: dict[str, Any] = {
    "convolution": _Follower._convolution,
    "addmm": _Follower._product,
    "mm": _Follower._product,
    "bmm": _Follower._product,
    "linear": lambda own, args, result: own._linear(args[0], args[1], (*args, None)[2], result),
    "native_batch_norm": lambda own, args, result: own._norm("batch norm", 1, args, result),
    "_native_batch_norm_legit_no_training": lambda own, args, result: own._norm(
        "batch norm", 1, args, result
    ),
    "cudnn_batch_norm": lambda own, args, result: own._norm("batch norm", 1, args, result),
    "native_group_norm": lambda own, args, result: own._norm("group norm", 1, args, result),
    "native_layer_norm": lambda own, args, result: own._norm("layer norm", -1, args, result),
    "_scaled_dot_product_flash_attention_for_cpu": _Follower._attention,
    "_scaled_dot_product_flash_attention": _Follower._attention,
    "_scaled_dot_product_efficient_attention": _Follower._attention,
    "_scaled_dot_product_attention_math": _Follower._attention,
    "_scaled_dot_product_cudnn_attention": _Follower._attention,
}
