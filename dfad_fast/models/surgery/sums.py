"""A layer's output, computed together with the sum and activation behind it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dfad_fast.models.surgery.followers import Follower


class Output(NamedTuple):
    """The output of a layer for some input, before it is computed.

    ``compute(residual, slope)`` returns it with a residual added, which may be None, and an activation with this slope
    below 0; slope 1 is no activation. ``kind`` is its shape, dtype and device.
    """

    kind: tuple[torch.Size, torch.dtype, torch.device]
    compute: Callable[[Tensor | None, float], Tensor]


def put_out(output: Output, behind: Follower | None) -> Any:
    """Computes ``output`` with the follower ``behind``, unless a hook reads in between.

    Returns a :class:`Summand` if a sum comes first.
    """
    if behind is None or behind.layer_is_seen:
        return output.compute(None, 1.0)
    if behind.added:
        return Summand(output, behind)
    return behind.activated(output.compute(None, behind.slope))


class Summand:
    """A layer's output before something is added to it. All other operations use the computed output."""

    def __init__(self, output: Output, behind: Follower) -> None:
        self._output = output
        self._behind = behind
        self._grad_mode = torch.is_grad_enabled()
        self._alone: Tensor | None = None

    def __add__(self, other: Any) -> Tensor:
        if not self._fits(other):
            total: Tensor = self.alone() + (other.alone() if isinstance(other, Summand) else other)
            return total
        if isinstance(other, Summand):
            other = other.alone()
        if self._behind.sum_is_seen:
            return self._output.compute(other, 1.0)
        return self._behind.activated(self._output.compute(other, self._behind.slope))

    __radd__ = __add__

    def __iadd__(self, other: Any) -> Tensor:
        if self._fits(other):
            return self + other  # nothing else holds the output, so a new tensor is equivalent
        total = self.alone()
        total += other.alone() if isinstance(other, Summand) else other
        return total

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Called for torch functions, which include additions by the other operand."""
        if func in (torch.add, Tensor.add) and len(args) == 2 and not kwargs:
            first, second = args
            return first + second if isinstance(first, cls) else second + first
        return func(*(arg.alone() if isinstance(arg, cls) else arg for arg in args), **(kwargs or {}))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.alone(), name)

    def alone(self) -> Tensor:
        """The layer's output."""
        if self._alone is None:
            with torch.set_grad_enabled(self._grad_mode):
                self._alone = self._output.compute(None, 1.0)
        return self._alone

    def _fits(self, other: Any) -> bool:
        if isinstance(other, Summand):
            kind = other._output.kind
        elif isinstance(other, Tensor):
            kind = (other.shape, other.dtype, other.device)
        else:
            return False
        untouched = self._alone is None and torch.is_grad_enabled() == self._grad_mode
        return untouched and kind == self._output.kind


def _on_output(name: str) -> Callable[..., Any]:
    def method(self: Summand, *args: Any) -> Any:
        return getattr(self.alone(), name)(*args)

    return method


# Python looks these up only in the class.
for _name in ("sub", "rsub", "mul", "rmul", "truediv", "rtruediv", "pow", "neg", "matmul", "getitem", "len"):
    setattr(Summand, f"__{_name}__", _on_output(f"__{_name}__"))
