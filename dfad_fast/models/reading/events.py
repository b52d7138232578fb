"""The record of one forward pass: places to tap, runs of modules, and events in order."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class Tap:
    """One place to read features from.

    ``shape`` is one image's: [C, H, W] or [C]. ``is_module``: whether ``path`` is a module without children, such as
    ``nn.ReLU``, and not a block that calls an activation function. ``channels_last``: whether the network keeps the
    features as [B, H, W, C]. ``extra_tokens``: for tokens [B, N + H W, C], the number N of tokens before the image's,
    such as a class token.
    """

    path: str
    call: int | None
    shape: tuple[int, ...]
    is_module: bool = False
    channels_last: bool = False
    extra_tokens: int | None = None

    def read(self, x: Tensor) -> Tensor:
        """The features at this tap, as [B, C, H, W] or [B, C]."""
        if self.channels_last:
            return x.permute(0, 3, 1, 2)
        if self.extra_tokens is not None:
            return x[:, self.extra_tokens :].transpose(1, 2).unflatten(2, self.size)
        return x

    @property
    def size(self) -> tuple[int, int]:
        """Height and width; (1, 1) for features without them."""
        return (self.shape[1], self.shape[2]) if len(self.shape) == 3 else (1, 1)

    def __str__(self) -> str:
        return self.path if self.call is None else f"{self.path}#{self.call}"


@dataclass(eq=False)
class Run:
    """One run of a module: its start, its input's size and its output, if these are features.

    ``products`` and ``activations``: how many had run at its start; ``products_after`` and ``activations_after``: at
    its end.
    """

    path: str
    began: int
    products: int
    activations: int
    takes: tuple[int, int] | None = None
    output: Tap | None = None
    products_after: int = 0
    activations_after: int = 0

    @property
    def is_single(self) -> bool:
        """Whether it is a single convolution or linear layer with its norm and activation."""
        return self.products_after - self.products <= 1 and self.activations_after - self.activations <= 1


@dataclass(frozen=True)
class Event:
    """An activation, or the end of a block whose output enters the next product without an activation.

    ``products``: how many convolutions and linear layers had run; ``inside``: the blocks around it, outermost first.
    ``is_single``: whether it is the end of a single layer. ``shrunk``: whether the latest product has a stride.
    ``source``: the output that enters the activation, if that runs directly in the network (path empty).
    """

    tap: Tap
    time: int
    products: int
    inside: tuple[Run, ...]
    is_single: bool = False
    shrunk: bool = False
    source: Tap | None = None


@dataclass
class Trace:
    """Events in order, every activation by its path, and each module's output (at its last run)."""

    events: list[Event] = field(default_factory=list)
    outputs: dict[str, Tap] = field(default_factory=dict)

    @property
    def activations(self) -> list[Tap]:
        """The taps of those events that are calls of an activation."""
        return [event.tap for event in self.events if event.tap.call is not None]
