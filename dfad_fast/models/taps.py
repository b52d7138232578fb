"""Feature taps: the pre-activations of any network's stages, read without changing the network.

A tap is written ``PATH#N``: the input of the N-th activation (from 0) that runs directly in the submodule
PATH during one forward pass, be it a module such as ``nn.ReLU`` or a call such as ``F.relu``. A bare ``PATH``
is that module's input if it is an activation module (at its last call) and its output otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from dfad_fast.errors import UsageError, unknown_name

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


@dataclass(frozen=True)
class Tap:
    """One place to read features from.

    ``shape`` is one image's: [C, H, W] or [C]. ``is_module``: whether ``path`` is a module without children,
    such as ``nn.ReLU``, and not a block that calls an activation function.
    """

    path: str
    call: int | None
    shape: tuple[int, ...]
    is_module: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """Height and width; (1, 1) for features without them."""
        return (self.shape[1], self.shape[2]) if len(self.shape) == 3 else (1, 1)

    @property
    def block(self) -> str:
        """The path of the module that the tapped activation belongs to: its parent, if it is a module itself."""
        return self.path.rpartition(".")[0] if self.is_module else self.path

    def __str__(self) -> str:
        return self.path if self.call is None else f"{self.path}#{self.call}"


class _ActivationInputs(TorchFunctionMode):
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


def find_taps(network: nn.Module, images: Tensor) -> list[Tap]:
    """The pre-activation that ends each stage of ``network``, found by one forward pass of ``images``.

    Rule: for each spatial size, the input of the last activation of that size, unless an activation on a
    larger size follows (a gate such as squeeze-and-excitation does not end a stage). Activations in a block
    that itself ends at another size come last in choice: the first of a bottleneck that halves the side still
    runs at the full size. In a ResNet that makes it the residual sum before a stage's last ReLU. Features are
    [B, C, H, W] or [B, C]; others are passed over.
    """
    calls, output_sizes = _trace(network, images)
    ends: list[Tap] = []
    for tap in reversed(calls):
        if not ends or _area(tap) > _area(ends[-1]):
            ends.append(tap)
    return [_end_of_stage(end, calls, output_sizes) for end in reversed(ends)]


def _area(tap: Tap) -> int:
    return tap.size[0] * tap.size[1]


def _end_of_stage(last: Tap, calls: Sequence[Tap], output_sizes: dict[str, tuple[int, int]]) -> Tap:
    """The last activation of the size of ``last`` whose block does not end at another size; else ``last``."""
    for tap in reversed(calls[: calls.index(last) + 1]):
        alike = tap.size == last.size and len(tap.shape) == len(last.shape)
        if alike and output_sizes.get(tap.block, tap.size) == tap.size:
            return tap
    return last


def named_taps(network: nn.Module, images: Tensor, names: Sequence[str]) -> list[Tap]:
    """The taps called ``names`` (``PATH#N`` or ``PATH``, see above), with their shapes for ``images``.

    Raises UsageError for a submodule that does not exist, an activation that does not run there, a tap named
    twice, and for features that are neither [B, C, H, W] nor [B, C].
    """
    calls, _ = _trace(network, images)
    modules = dict(network.named_modules())
    taps: list[Tap] = []
    for name in names:
        path, _, call = name.partition("#")
        if path not in modules:
            raise unknown_name("submodule to tap", path, [p for p in modules if p])
        here = [tap for tap in calls if tap.path == path]
        if call or (here and here[0].is_module):
            index = int(call) if call.isdigit() else len(here) - 1
            if (call and not call.isdigit()) or index >= len(here):
                raise UsageError(f"tap {name!r}: {len(here)} activations run in {path!r}, numbered from 0")
            tap = here[index]
        else:
            tap = _output_tap(network, images, path)
        if tap in taps:
            raise UsageError(f"tap {name!r} is named twice: name each stage once")
        taps.append(tap)
    return taps


def _output_tap(network: nn.Module, images: Tensor, path: str) -> Tap:
    with Taps(network, [Tap(path, None, ())]).record() as features, torch.no_grad():
        network(images)
    shape = tuple(features[0].shape) if isinstance(features[0], Tensor) else ()
    if len(shape) not in {2, 4}:
        came = list(shape) or "no tensor"
        raise UsageError(f"tap {path!r}: expected features [B, C, H, W] or [B, C], got {came}")
    return Tap(path, None, shape[1:])


def _trace(network: nn.Module, images: Tensor) -> tuple[list[Tap], dict[str, tuple[int, int]]]:
    """One forward pass: every activation on per-image features, in order, and modules' output sizes by path."""
    running: list[str] = []
    counts: dict[str, int] = {}
    calls: list[Tap] = []
    output_sizes: dict[str, tuple[int, int]] = {}
    leaves = {path for path, module in network.named_modules() if next(module.children(), None) is None}

    def see(x: Tensor) -> None:
        path = running[-1]
        index = counts[path] = counts.get(path, -1) + 1
        if x.dim() in {2, 4} and x.shape[0] == images.shape[0]:
            calls.append(Tap(path, index, tuple(x.shape[1:]), is_module=path in leaves and path != ""))

    def leave(_module: nn.Module, _inputs: Any, output: Any) -> None:
        path = running.pop()
        if isinstance(output, Tensor) and output.dim() == 4:
            output_sizes[path] = (output.shape[2], output.shape[3])

    with ExitStack() as stack:
        for path, module in network.named_modules():
            enter_hook = module.register_forward_pre_hook(lambda *_, path=path: running.append(path))
            stack.callback(enter_hook.remove)
            stack.callback(module.register_forward_hook(leave, always_call=True).remove)
        stack.enter_context(_ActivationInputs(see))
        stack.enter_context(torch.no_grad())
        network(images)
    return calls, output_sizes


class Taps:
    """Reads the features at ``taps`` whenever ``network`` runs inside ``record()``."""

    def __init__(self, network: nn.Module, taps: Sequence[Tap]) -> None:
        self._network = network
        self.taps = list(taps)

    @contextmanager
    def record(self) -> Iterator[list[Tensor]]:
        """Yields a list that holds, after a forward pass, the features in the order of ``taps``.

        Hooks exist only inside the block. An activation that works in place does not change what is read.
        """
        features: list[Any] = [None] * len(self.taps)
        by_path: dict[str, dict[int | None, int]] = {}
        for position, tap in enumerate(self.taps):
            by_path.setdefault(tap.path, {})[tap.call] = position
        with ExitStack() as stack:
            for path, wanted in by_path.items():
                for hook in _watch(self._network.get_submodule(path), wanted, features):
                    stack.callback(hook.remove)
            yield features


def _watch(module: nn.Module, wanted: dict[int | None, int], features: list[Any]) -> list[Any]:
    """Hooks that put the output of ``module`` (key None) and its activations' inputs into ``features``."""
    calls = 0
    inside_children = 0

    def see(x: Tensor) -> None:
        nonlocal calls
        if inside_children:
            return
        if calls in wanted:
            features[wanted[calls]] = x
        calls += 1

    def enter_child(*_: Any) -> None:
        nonlocal inside_children
        inside_children += 1

    def leave_child(*_: Any) -> None:
        nonlocal inside_children
        inside_children -= 1

    def see_output(_module: nn.Module, _inputs: Any, output: Any) -> None:
        # A copy, since the activation that follows may work in place.
        features[wanted[None]] = output.clone() if isinstance(output, Tensor) else output

    hooks: list[Any] = []
    if None in wanted:
        hooks.append(module.register_forward_hook(see_output))
    if any(call is not None for call in wanted):
        # The mode is on only while this module runs, so that the rest of the network pays nothing for it.
        mode = _ActivationInputs(see)
        hooks.append(module.register_forward_pre_hook(lambda *_: (mode.__enter__(), None)[1]))
        hooks.append(
            module.register_forward_hook(lambda *_: mode.__exit__(None, None, None), always_call=True)
        )
        for child in module.children():
            hooks.append(child.register_forward_pre_hook(enter_child))
            hooks.append(child.register_forward_hook(leave_child, always_call=True))
    return hooks


def match_taps(teacher: Sequence[Tap], student: Sequence[Tap]) -> list[tuple[Tap, Tap]]:
    """Pairs of taps of equal spatial size, in order; a tap without a partner is left out."""
    pairs = []
    rest = list(student)
    for tap in teacher:
        for position, candidate in enumerate(rest):
            if candidate.size == tap.size and len(candidate.shape) == len(tap.shape):
                pairs.append((tap, candidate))
                rest = rest[position + 1 :]
                break
    return pairs
