"""A network's convolutions each by what is quickest for it on this machine, while somebody wants it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from dfad_fast import backends
from dfad_fast.errors import UsageError
from dfad_fast.models.surgery.convolutions import WinogradConvolutions
from dfad_fast.ops import WinogradWeight, narrow_conv2d, winograd_conv2d, winograd_weight
from dfad_fast.private_torch import has_own_convolution

Algorithm = Literal["torch", "winograd", "direct", "tiled"]
"""torch's own convolution; :func:`dfad_fast.ops.winograd_conv2d`; :func:`dfad_fast.ops.narrow_conv2d`, directly or by
tiles."""

_Convolution = Callable[[nn.Conv2d, Tensor], Tensor]

# Above it, torch and Winograd's filtering are quicker.
_MOST_CHANNELS = 128
_ROUNDS = 7
# What another algorithm must save to be taken: less is a matter of luck, and torch rounds least.
_MARGIN = 0.95

_measured: dict[tuple[object, ...], Algorithm] = {}


class ChosenConvolutions:
    """The convolutions of ``network`` by the algorithms of ``choices``, which :func:`choose_convolutions` measured.

    Its modules, weights and hooks stay what they are, and nothing is changed outside ``used()``. With ``frozen``
    Winograd's weights are transformed once, when they are first used, and later changes of them are not seen.

    Raises UsageError where a choice names no convolution, or an algorithm that it has not.
    """

    def __init__(self, network: nn.Module, choices: Mapping[str, Algorithm], frozen: bool = False) -> None:
        modules = dict(network.named_modules())
        self._winograd = _FrozenWeights() if frozen else None
        self._forwards: list[tuple[Any, _Convolution]] = []
        for name, algorithm in choices.items():
            module = modules.get(name)
            if module is None or algorithm not in algorithms_of(module):
                raise UsageError(f"{name or 'the network'} has no convolution by {algorithm!r}")
            if algorithm != "torch":
                self._forwards.append((module, _by(algorithm, self._winograd)))

    def __len__(self) -> int:
        return len(self._forwards)

    @contextmanager
    def used(self) -> Iterator[None]:
        """Within it the network convolves so."""
        for convolution, function in self._forwards:
            # Into the dictionary, since nn.Module looks at all that is set as usual.
            convolution.__dict__["forward"] = partial(_forward, function, convolution)
        try:
            yield
        finally:
            for convolution, _ in self._forwards:
                convolution.__dict__.pop("forward", None)  # another network may hold it too


def algorithms_of(module: nn.Module) -> tuple[Algorithm, ...]:
    """What can compute ``module``; nothing for what is no convolution, or one with a forward of its own."""
    if type(module) is not nn.Conv2d or has_own_convolution(module):
        return ()
    found: list[Algorithm] = ["torch"]
    kernel = module.kernel_size[0]
    padded = module.padding in ((kernel // 2, kernel // 2), "same")
    plain = padded and module.dilation == (1, 1) and module.groups == 1 and module.padding_mode == "zeros"
    if not plain or module.kernel_size not in ((1, 1), (3, 3)) or module.stride not in ((1, 1), (2, 2)):
        return tuple(found)
    if len(WinogradConvolutions(module)):
        found.append("winograd")
    if max(module.in_channels, module.out_channels) <= _MOST_CHANNELS:
        found.append("direct")
        if kernel == 3 and module.stride == (1, 1):
            found.append("tiled")
    return tuple(found)


def choose_convolutions(network: nn.Module, images: Tensor, frozen: bool = False) -> dict[str, Algorithm]:
    """The quickest algorithm for each convolution of ``network``, by its name, on images like these.

    Each is measured once per process, shape and number of threads, forward and backward, on numbers of its own: of a
    ``frozen`` network without the weights' gradient. The choice for one machine may not be that for another, nor that
    of the next run, and algorithms round differently: whoever wants the same numbers again keeps what this returns.
    ``images`` go through the network once, in its present mode; its buffers and torch's random state stay as they
    are.
    """
    seen: dict[str, tuple[nn.Conv2d, Tensor]] = {}
    handles = []
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d) and len(algorithms_of(module)) > 1:
            see = partial(_see, seen, name)
            handles.append(module.register_forward_pre_hook(see))
    try:
        buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            functional_call(network, buffers, (images,))
    finally:
        for handle in handles:
            handle.remove()
    return {name: _choose(module, x, frozen) for name, (module, x) in seen.items()}


def _see(
    seen: dict[str, tuple[nn.Conv2d, Tensor]], name: str, module: nn.Conv2d, args: tuple[Tensor, ...]
) -> None:
    seen.setdefault(name, (module, args[0]))


def _choose(module: nn.Conv2d, x: Tensor, frozen: bool) -> Algorithm:
    if not backends.native_on_cpu(x, module.weight) or x.dim() != 4 or not x.numel():
        return "torch"
    key = (*x.shape, x.stride(), *module.weight.shape, module.stride, frozen, torch.get_num_threads())
    if key not in _measured:
        _measured[key] = _quickest(module, x, algorithms_of(module), frozen)
    return _measured[key]


def _quickest(module: nn.Conv2d, x: Tensor, algorithms: tuple[Algorithm, ...], frozen: bool) -> Algorithm:
    """The contenders take turns, so that none has a quieter machine than the others."""
    winograd = _FrozenWeights() if frozen else None
    image = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    own = nn.Conv2d(
        module.in_channels,
        module.out_channels,
        module.kernel_size,  # type: ignore[arg-type]
        module.stride,  # type: ignore[arg-type]
        module.padding,  # type: ignore[arg-type]
        bias=False,
        device="meta",
    )
    own.weight = nn.Parameter(module.weight.detach().clone(), requires_grad=not frozen)
    wanted = [image] if frozen else [image, own.weight]
    seconds: dict[Algorithm, float] = dict.fromkeys(algorithms, math.inf)
    with torch.enable_grad():
        for turn in range(-1, _ROUNDS):  # the first one warms up
            for algorithm in algorithms:
                start = time.perf_counter()
                result = _by(algorithm, winograd)(own, image)
                torch.autograd.grad(result, wanted, torch.ones_like(result))
                taken = time.perf_counter() - start
                # What else the machine does only ever adds to it.
                seconds[algorithm] = min(seconds[algorithm], taken if turn >= 0 else math.inf)
    best = min(algorithms, key=lambda algorithm: seconds[algorithm])
    return best if seconds[best] < _MARGIN * seconds["torch"] else "torch"


class _FrozenWeights:
    """Weights of frozen convolutions, transformed when they are first used."""

    def __init__(self) -> None:
        self._transformed: dict[int, WinogradWeight] = {}

    def of(self, convolution: nn.Conv2d, backward: bool) -> WinogradWeight:
        known = self._transformed.get(id(convolution))
        if known is None or (backward and known.adjoint is None):
            known = self._transformed[id(convolution)] = winograd_weight(convolution.weight, adjoint=backward)
        return known


def _forward(function: _Convolution, convolution: nn.Conv2d, x: Tensor) -> Tensor:
    return function(convolution, x) if x.dim() == 4 else nn.Conv2d.forward(convolution, x)


def _by(algorithm: Algorithm, winograd: _FrozenWeights | None) -> _Convolution:
    if algorithm == "winograd":
        return partial(_by_winograd, winograd)
    if algorithm == "torch":
        return _by_torch
    return partial(_by_narrow, 4 if algorithm == "tiled" else 0)


def _by_torch(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    padding = convolution.kernel_size[0] // 2
    return F.conv2d(x, convolution.weight, convolution.bias, convolution.stride, padding)


def _by_narrow(tile: int, convolution: nn.Conv2d, x: Tensor) -> Tensor:
    return narrow_conv2d(x, convolution.weight, convolution.bias, stride=convolution.stride[0], tile=tile)


def _by_winograd(winograd: _FrozenWeights | None, convolution: nn.Conv2d, x: Tensor) -> Tensor:
    if winograd is None:
        return winograd_conv2d(x, convolution.weight, convolution.bias)
    backward = torch.is_grad_enabled() and x.requires_grad
    return winograd_conv2d(x, winograd.of(convolution, backward), convolution.bias)
