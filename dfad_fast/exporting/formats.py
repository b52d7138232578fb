"""The export formats: how to write each file, and how to read it back as a network."""

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

# Every layer may sum float32 values in another order. ResNets, VGG, MobileNets, ConvNeXt and Swin differed by at most
# 3e-6.
_ROUNDING = 1e-4


@dataclass(frozen=True)
class Format:
    """One export format.

    Attributes:
        suffix: suffix of the file, such as ``.onnx``.
        ending: the part of the file's name after the student's name.
        write: writes a student to a path.
        read: loads the file as a function from images to logits.
        tolerance: allowed difference of its logits from the student's, as a fraction of the student's largest logit.
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
