"""Feature taps: reads the pre-activations of any network's stages without changing the network.

A tap is written ``PATH#N``: the input of the N-th activation (from 0) that runs directly in the submodule PATH during
one forward pass: a module such as ``nn.ReLU`` or a call such as ``F.relu``. A bare ``PATH`` is the module's input at
its last call if it is an activation module, otherwise its output.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn

from dfad_fast.errors import UsageError, unknown_name
from dfad_fast.models.reading.calls import ActivationInputs
from dfad_fast.models.reading.events import Event, Run, Tap
from dfad_fast.models.reading.hooks import first_output
from dfad_fast.models.reading.tracing import trace

__all__ = ["Tap", "Taps", "find_taps", "match_taps", "named_taps"]


def find_taps(network: nn.Module, images: Tensor) -> list[Tap]:
    """The pre-activation that ends each stage of ``network``, found by one forward pass of ``images``.

    Rule: for each spatial size, the input of the last activation of that size, unless an activation on a larger size
    follows (a gate such as squeeze-and-excitation does not end a stage). In a ResNet this is the residual sum before a
    stage's last ReLU. An activation inside a block that changes the size belongs to the next stage, such as the first
    of a bottleneck that halves the side. But if only norms come before it in the block, it activates the previous
    stage, as in a pre-activation ResNet. If blocks end without an activation, as in MobileNetV2, ConvNeXt and ViT, a
    stage ends with the last such block's output. The same holds if that output joins branches that each have an
    activation, as in GoogLeNet and ShuffleNet.

    Features are [B, C, H, W] or [B, C]. Features [B, H, W, C], or tokens [B, N + H W, C] in the image's proportions,
    are read as [B, C, H, W] without the N extra tokens in front. Other features are skipped.
    """
    events = trace(network, images).events
    lasts: list[Event] = []
    for event in reversed(events):
        if not lasts or _area(event.tap) > _area(lasts[-1].tap):
            lasts.append(event)
    ends = [_end_of_stage(last, events) for last in reversed(lasts)]
    return [_whole(end) for end in ends if end is not None]


def _area(tap: Tap) -> int:
    return tap.size[0] * tap.size[1]


def _end_of_stage(last: Event, events: Sequence[Event]) -> Event | None:
    """The last event with the size of ``last`` that is not on the way to another size; otherwise ``last``.

    None if only the start of a block that changes it has this size, such as after a stem's pooling.
    """
    alike = [
        event
        for event in events[: events.index(last) + 1]
        if event.tap.size == last.tap.size and len(event.tap.shape) == len(last.tap.shape)
    ]
    linear_ends = [e.time for e in alike if e.tap.call is None and not _leaves_size(e, math.inf)]
    stage_end = max(linear_ends, default=math.inf)
    ends = [event for event in alike if not _leaves_size(event, stage_end)]
    if ends:
        return ([event for event in ends if not _comes_down(event)] or ends)[-1]
    return None if len(alike) == 1 and last.inside[-1].products else last


def _leaves_size(event: Event, stage_end: float) -> bool:
    """Whether an activation is in a block that ends at another size: its own, or one started after ``stage_end``.

    The same for the end of a single layer, which is not a block.
    """
    if event.tap.call is None and not event.is_single:
        return False
    around = list(event.inside)
    while len(around) > 1 and around[-1].is_single and _size_of(around[-1]) == event.tap.size:
        around.pop()
    blocks = [run for run in around if run is around[-1] or run.began > stage_end]
    return any(_goes_on(run, event) for run in blocks)


def _size_of(run: Run) -> tuple[int, int] | None:
    return run.output.size if run.output else None


def _goes_on(run: Run, event: Event) -> bool:
    """Whether ``run`` changes features from the size of ``event`` to another, with products before and after ``event``.

    A head that pools its map to 1x1, such as a SqueezeNet's classifier, needs no product after it.
    """
    if run.output is None or run.output.size == event.tap.size or run.takes not in {None, event.tap.size}:
        return False
    amid = event.products < run.products_after or run.output.size == (1, 1)
    return run.products < event.products and amid


def _comes_down(event: Event) -> bool:
    """Whether the event is a single layer with a stride, such as between the branches of an HRNet."""
    singles = [run for run in event.inside if run.is_single and run.products < event.products]
    return event.shrunk and (bool(singles) or len(event.inside) == 1)


def _whole(end: Event) -> Tap:
    """The tap of ``end``; if that is one of several branches, the output of the block that joins them."""
    for run in reversed(end.inside):
        joined = run.output
        if (
            not run.path
            or joined is None
            or joined.size != end.tap.size
            or run.products_after != end.products
        ):
            break
        if joined.shape[0] > end.tap.shape[0]:
            return joined
    return end.source or end.tap


def named_taps(network: nn.Module, images: Tensor, names: Sequence[str]) -> list[Tap]:
    """The taps called ``names`` (``PATH#N`` or ``PATH``, see above), with their shapes for ``images``.

    Raises UsageError for a submodule that does not exist, an activation that does not run there, a tap named twice, or
    features other than [B, C, H, W], [B, C] or tokens (see find_taps).
    """
    seen = trace(network, images)
    modules = dict(network.named_modules())
    taps: list[Tap] = []
    for name in names:
        path, _, call = name.partition("#")
        if path not in modules:
            raise unknown_name("submodule to tap", path, [p for p in modules if p])
        here = [tap for tap in seen.activations if tap.path == path]
        if call or (here and here[0].is_module):
            index = int(call) if call.isdigit() else len(here) - 1
            if (call and not call.isdigit()) or index >= len(here):
                raise UsageError(f"tap {name!r}: {len(here)} activations run in {path!r}, numbered from 0")
            tap = here[index]
        else:
            tap = _output_tap(path, seen.outputs.get(path))
        if tap in taps:
            raise UsageError(f"tap {name!r} is named twice: name each stage once")
        taps.append(tap)
    return taps


def _output_tap(path: str, tap: Tap | None) -> Tap:
    if tap is None or len(tap.shape) not in {1, 3}:
        came = ["B", *tap.shape] if tap else "no tensor"
        raise UsageError(
            f"tap {path!r}: expected features [B, C, H, W] or [B, C], or tokens of a grid, got {came}"
        )
    return tap


class Taps:
    """Reads the features at ``taps`` whenever ``network`` runs inside ``record()``."""

    def __init__(self, network: nn.Module, taps: Sequence[Tap]) -> None:
        self._network = network
        self.taps = list(taps)

    @contextmanager
    def record(self) -> Iterator[list[Tensor]]:
        """Yields a list that holds, after a forward pass, the features in the order of ``taps``.

        Hooks exist only inside the block. In-place activations do not change the recorded features.
        """
        features: list[Any] = [None] * len(self.taps)
        by_path: dict[str, dict[int | None, Callable[[Tensor], None]]] = {}
        for position, tap in enumerate(self.taps):
            by_path.setdefault(tap.path, {})[tap.call] = partial(_keep, features, position, tap)
        with ExitStack() as stack:
            for path, wanted in by_path.items():
                for hook in _watch(self._network.get_submodule(path), wanted):
                    stack.callback(hook.remove)
            yield features


def _keep(features: list[Any], position: int, tap: Tap, x: Tensor) -> None:
    features[position] = tap.read(x)


def _watch(module: nn.Module, wanted: dict[int | None, Callable[[Any], None]]) -> list[Any]:
    """Adds hooks that pass the output of ``module`` (key None) and its activations' inputs to their callbacks."""
    calls = 0
    inside_children = 0

    def see(x: Tensor) -> None:
        nonlocal calls
        if inside_children:
            return
        if calls in wanted:
            wanted[calls](x)
        calls += 1

    def enter_child(*_: Any) -> None:
        nonlocal inside_children
        inside_children += 1

    def leave_child(*_: Any) -> None:
        nonlocal inside_children
        inside_children -= 1

    def see_output(_module: nn.Module, _inputs: Any, output: Any) -> None:
        x = first_output(output)
        assert x is not None
        # A copy, because the next activation may work in place.
        wanted[None](x.clone())

    hooks: list[Any] = []
    if None in wanted:
        hooks.append(module.register_forward_hook(see_output))
    if any(call is not None for call in wanted):
        # The mode is on only while this module runs, so that it does not slow the rest of the network.
        mode = ActivationInputs(see)
        hooks.append(module.register_forward_pre_hook(lambda *_: (mode.__enter__(), None)[1]))
        hooks.append(
            module.register_forward_hook(lambda *_: mode.__exit__(None, None, None), always_call=True)
        )
        for child in module.children():
            hooks.append(child.register_forward_pre_hook(enter_child))
            hooks.append(child.register_forward_hook(leave_child, always_call=True))
    return hooks


def match_taps(teacher: Sequence[Tap], student: Sequence[Tap]) -> list[tuple[Tap, Tap]]:
    """Pairs of taps of equal spatial size, in order; skips taps without a partner."""
    pairs = []
    rest = list(student)
    for tap in teacher:
        for position, candidate in enumerate(rest):
            if candidate.size == tap.size and len(candidate.shape) == len(tap.shape):
                pairs.append((tap, candidate))
                rest = rest[position + 1 :]
                break
    return pairs
