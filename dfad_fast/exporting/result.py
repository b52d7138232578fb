"""What an export left behind, and how good it is."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from dfad_fast.errors import RunError
from dfad_fast.exporting.compressing import Compression
from dfad_fast.exporting.measuring import Latency


@dataclass(frozen=True)
class Variant:
    """The student in PyTorch, or one of its files. Fractions are from 0 to 1."""

    name: str
    path: str | None
    bytes: int
    """The size of the file; for the student in PyTorch, that of its parameters and buffers."""
    max_difference: float
    """The largest difference of a logit from the student's."""
    agreement: float
    """That of its class with the student's."""
    accuracy: float | None
    latency: dict[int, Latency]
    """By size of batch."""


@dataclass(frozen=True)
class Export:
    """The variants of one export, the student itself first, on ``compared`` images of the kind ``images``."""

    run: str
    format: str
    metadata: dict[str, str]
    images: Literal["real", "generated"]
    dataset: str | None
    no_test_set: str
    """Why there is no dataset, and so no accuracy."""
    compared: int
    calibration_images: int | None
    """Generated images that 8-bit activations were scaled by."""
    largest_logit: float
    allowed_difference: float
    """That of the float variants; a file that exceeds it is not kept."""
    variants: list[Variant]
    threads: int
    device: str
    versions: dict[str, str]
    compression: Compression | None = None
    """Of the student that the files are of, measured on the same images; agreement is with the teacher."""

    def as_data(self) -> dict[str, Any]:
        """Everything, as plain values that JSON knows."""
        return asdict(self)


class Int8Failed(RunError):
    """The file in float is there, checked and measured in ``export``; that in 8 bits is not."""

    def __init__(self, message: str, export: Export) -> None:
        super().__init__(message)
        self.export = export
