"""The student as a program of ATen ops, which runs without its Python code: ``torch.export``'s .pt2."""

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

    Raises RunError for a network that is none, such as one whose Python code looks at values.
    """
    try:
        # In channels_last, which suits training, pooling would become a gathering by computed indices in ONNX.
        network = copy.deepcopy(student.network).to(memory_format=torch.contiguous_format)
        with quietly(), torch.no_grad():
            program = torch.export.export(
                network, (student.example(),), dynamic_shapes=({0: Dim("batch", min=1)},)
            )
    except Exception as error:
        raise cannot_export("torch.export", error) from error
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it names folders of this machine
    return program


def write_program(student: Student, path: Path) -> None:
    """Raises RunError for a network that cannot be exported."""
    program = trace(student)
    data = io.BytesIO()  # onto a full disk torch.export.save ends the process
    try:
        with quietly():
            torch.export.save(program, data, extra_files={METADATA: json.dumps(student.metadata())})
    except Exception as error:  # such as a type of argument that it has no form for
        raise cannot_export("torch.export", error) from error
    path.write_bytes(data.getbuffer())


def read_program(path: Path) -> nn.Module:
    """The program in ``path``, which has to come from someone who is trusted: torch.export.load unpickles."""
    with quietly():
        return torch.export.load(path).module()


def cannot_export(what: str, error: BaseException) -> RunError:
    """In one line, with the reason at the bottom of ``error``."""
    while error.__cause__ is not None:
        error = error.__cause__
    reason = in_one_line(error)
    return RunError(
        f"{what} cannot export the student ({reason}): hand over its weights, with --format safetensors, or change "
        "the network"
    )
