"""What a layer puts out, with what comes behind it computed at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dfad_fast.models.surgery.followers import Follower


class Output(NamedTuple):
    """The output of a layer for some input, before it is computed.

    ``compute(residual, slope)`` gives it with a residual added, which may be none, and an activation with this slope
    below 0, 1 for none. ``kind`` is its shape, dtype and device.
    """

    kind: tuple[torch.Size, torch.dtype, torch.device]
    compute: Callable[[Tensor | None, float], Tensor]


def put_out(output: Output, behind: Follower | None) -> Any:
    """``output``, with what is ``behind``, as far as nobody looks in between; where something is to be added to it, as
    what waits for that."""
    if behind is None or behind.layer_is_seen:
        return output.compute(None, 1.0)
    if behind.added:
        return Summand(output, behind)
    if behind.sum_is_seen:
        return output.compute(None, 1.0)
    return behind.activated(output.compute(None, behind.slope))


class Summand:
    """What a layer puts out, before something is added to it, which is all that happens to it."""

    def __init__(self, output: Output, behind: Follower) -> None:
        self._output = output
        self._behind = behind

    def __add__(self, other: Any) -> Tensor:
        if isinstance(other, Summand):
            other = other.alone()
        if not isinstance(other, Tensor) or (other.shape, other.dtype, other.device) != self._output.kind:
            total: Tensor = self.alone() + other
            return total
        if self._behind.sum_is_seen:
            return self._output.compute(other, 1.0)
        return self._behind.activated(self._output.compute(other, self._behind.slope))

    # A new tensor is as good as the layer's own, which nobody else has.
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
        """The layer's output."""
        return self._output.compute(None, 1.0)
