"""The result of an export: its files and their quality."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from dfad_fast.errors import RunError
from dfad_fast.exporting.compressing import Compression
from dfad_fast.exporting.measuring import Latency


@dataclass(frozen=True)
class Variant:
    """The student in PyTorch, or one of its files. Fractions are in [0, 1]."""

    name: str
    path: str | None
    bytes: int
    """Size of the file; for the student in PyTorch, size of its parameters and buffers."""
    max_difference: float
    """Largest absolute difference between a logit and the student's."""
    agreement: float
    """Fraction of images on which it predicts the same class as the student."""
    accuracy: float | None
    latency: dict[int, Latency]
    """By batch size."""


@dataclass(frozen=True)
class Export:
    """The variants of one export, the student itself first, compared on ``compared`` images of the kind ``images``."""

    run: str
    format: str
    metadata: dict[str, str]
    images: Literal["real", "generated"]
    dataset: str | None
    no_test_set: str
    """Why there is no dataset, and therefore no accuracy."""
    compared: int
    calibration_images: int | None
    """Number of generated images from which the 8-bit activations got their scales."""
    largest_logit: float
    allowed_difference: float
    """Allowed ``max_difference`` of the float variants; a file that exceeds it is not kept."""
    variants: list[Variant]
    threads: int
    device: str
    versions: dict[str, str]
    compression: Compression | None = None
    """The compression of the exported student, measured on the same images; agreement is with the teacher."""

    def as_data(self) -> dict[str, Any]:
        """All fields as values that JSON supports."""
        return asdict(self)


class Int8Failed(RunError):
    """The 8-bit file could not be exported; the float file was, and ``export`` describes it."""

    def __init__(self, message: str, export: Export) -> None:
        super().__init__(message)
        self.export = export
