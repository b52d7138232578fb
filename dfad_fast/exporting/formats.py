"""The kinds of file that a student is handed over as: how each is written, and read to be asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor, nn

from dfad_fast.exporting.onnx_file import read_onnx, write_onnx
from dfad_fast.exporting.program import read_program, write_program
from dfad_fast.exporting.student import Student
from dfad_fast.models import load_weights
from dfad_fast.runs.layout import EXPORT_ENDINGS
from dfad_fast.runs.whole_files import plain_tensors

Predict = Callable[[Tensor], Tensor]
"""Images [B, C, H, W] to logits [B, classes]."""

# Float32 sums in another order, layer upon layer. ResNets, VGG, MobileNets, ConvNeXt and Swin differed by 3e-6 at most.
_ROUNDING = 1e-4


@dataclass(frozen=True)
class Format:
    """One kind of file.

    Attributes:
        suffix: that its files have.
        ending: what follows the student's name in its file's.
        tolerance: how far its logits may be from the student's, as a fraction of the largest of these.
    """

    suffix: str
    ending: str
    write: Callable[[Student, Path], None]
    read: Callable[[Student, Path], Predict]
    tolerance: float


def _write_weights(student: Student, path: Path) -> None:
    save_file(plain_tensors(student.network.state_dict()), path, student.metadata())


def _read_weights(student: Student, path: Path) -> nn.Module:
    network = student.rebuilt()
    load_weights(network, path, "student")
    return network


FORMATS = {
    "onnx": Format(".onnx", EXPORT_ENDINGS["onnx"], write_onnx, lambda _, path: read_onnx(path), _ROUNDING),
    "torch": Format(
        ".pt2", EXPORT_ENDINGS["torch"], write_program, lambda _, path: read_program(path), _ROUNDING
    ),
    "safetensors": Format(".safetensors", EXPORT_ENDINGS["safetensors"], _write_weights, _read_weights, 0.0),
}
