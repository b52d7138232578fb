"""The student as a ``torch.export`` program (.pt2) of ATen ops, which runs without its Python code."""

from __future__ import annotations

import copy
import io
import json
from pathlib import Path

import torch
from torch import nn
from torch.export import Dim, ExportedProgram

from dfad_fast.errors import RunError, in_one_line
from dfad_fast.exporting.quiet import quietly
from dfad_fast.exporting.student import Student

METADATA = "dfad_fast.json"


def trace(student: Student) -> ExportedProgram:
    """The student's program for any number of images.

    Raises RunError if the network cannot be exported, for example if its Python code depends on tensor values.
    """
    try:
        # In channels_last, the format for training, ONNX would express pooling as a gather by computed indices.
        network = copy.deepcopy(student.network).to(memory_format=torch.contiguous_format)
        with quietly(), torch.no_grad():
            program = torch.export.export(
                network, (student.example(),), dynamic_shapes=({0: Dim("batch", min=1)},)
            )
    except Exception as error:
        raise cannot_export("torch.export", error) from error
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it contains local paths
    return program


def write_program(student: Student, path: Path) -> None:
    """Raises RunError if the network cannot be exported."""
    program = trace(student)
    data = io.BytesIO()  # because torch.export.save kills the process if the disk is full
    try:
        with quietly():
            torch.export.save(program, data, extra_files={METADATA: json.dumps(student.metadata())})
    except Exception as error:  # such as an argument type that cannot be serialized
        raise cannot_export("torch.export", error) from error
    path.write_bytes(data.getbuffer())


def read_program(path: Path) -> nn.Module:
    """The program in ``path``. The file must come from a trusted source, because torch.export.load unpickles it."""
    with quietly():
        return torch.export.load(path).module()


def cannot_export(what: str, error: BaseException) -> RunError:
    """A one-line error with the root cause of ``error``."""
    while error.__cause__ is not None:
        error = error.__cause__
    reason = in_one_line(error)
    return RunError(
        f"{what} cannot export the student ({reason}): export its weights with --format safetensors, or change the "
        "network"
    )
