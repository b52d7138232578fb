"""The record of a student's initialization, for terminals and files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dfad_fast.wording import counted, percent


@dataclass(frozen=True)
class TakenLayer:
    """``layer`` of the student has weights from the teacher's ``source``; shapes are those of the weights."""

    layer: str
    source: str
    shape: tuple[int, ...]
    source_shape: tuple[int, ...]


@dataclass(frozen=True)
class LeftLayer:
    """``layer`` of the student keeps its own weights."""

    layer: str
    reason: str


@dataclass(frozen=True)
class Start:
    """``from_teacher`` says whether the student was changed; if not, ``reason`` says why."""

    from_teacher: bool
    reason: str
    """Empty if the user disabled it."""
    taken: tuple[TakenLayer, ...] = ()
    left: tuple[LeftLayer, ...] = ()
    unused: tuple[str, ...] = ()
    """The unused layers of the teacher."""
    parameters: int = 0
    """The student's."""
    parameters_taken: int = 0
    agreement: float | None = None
    """The fraction of images that get the teacher's class, before the first step."""
    images: int = 0
    """The number of these images."""

    @property
    def share(self) -> float:
        """The fraction of the student's parameters that come from the teacher."""
        return self.parameters_taken / self.parameters if self.parameters else 0.0

    @property
    def share_of_layers(self) -> float:
        """The fraction of the student's layers that come from the teacher."""
        layers = len(self.taken) + len(self.left)
        return len(self.taken) / layers if layers else 0.0

    def lines(self) -> list[str]:
        """The text for a terminal."""
        if not self.taken:
            return [f"student: keeps its own weights, {self.reason}"] if self.reason else []
        whole = f"{percent(self.share)} of its parameters, {counted(len(self.taken), 'layer')}"
        lines = [f"student: initialized from the teacher ({whole})"]
        narrower = [own for own in self.taken if own.shape != own.source_shape]
        if narrower:
            example = max(narrower, key=lambda own: own.source_shape)
            lines.append(
                f"student: {counted(len(narrower), 'layer')} narrowed, such as {example.layer} "
                f"{list(example.shape)} from {example.source} {list(example.source_shape)}"
            )
        if self.unused:
            lines.append(f"student: without the teacher's {_some(self.unused)}")
        if self.left:
            lines.append(f"student: not taken from the teacher: {_some([own.layer for own in self.left])}")
        if self.agreement is not None:
            lines.append(
                f"student: {percent(self.agreement)} agreement with the teacher before the first step, on "
                f"{self.images:,} drawn images"
            )
        return lines

    def as_data(self) -> dict[str, Any]:
        """Plain values, for a file."""
        return {
            "from_teacher": self.from_teacher,
            "reason": self.reason,
            "share": self.share,
            "agreement": self.agreement,
            "images": self.images,
            "taken": {own.layer: own.source for own in self.taken},
            "left": {own.layer: own.reason for own in self.left},
            "unused": list(self.unused),
        }


def _some(names: tuple[str, ...] | list[str], most: int = 4) -> str:
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(name or "its own parameters" for name in names[:most]) + more
