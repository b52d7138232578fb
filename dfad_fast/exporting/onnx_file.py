"""The student as an ONNX model, which runs without PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dfad_fast.exporting.program import cannot_export, trace
from dfad_fast.exporting.quiet import quietly
from dfad_fast.exporting.student import Student

if TYPE_CHECKING:
    from onnx import ModelProto

IMAGES, LOGITS, _BATCH = "images", "logits", "batch"
PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def write_onnx(student: Student, path: Path) -> None:
    """Writes one file with the input ``images`` [batch, C, H, W] and the output ``logits`` [batch, classes].

    Raises RunError if the network cannot be exported.
    """
    import onnx

    program = trace(student)
    try:
        with quietly():
            exported = torch.onnx.export(
                program, dynamo=True, input_names=[IMAGES], output_names=[LOGITS], verbose=False
            )
            assert exported is not None
            model = exported.model_proto
    except Exception as error:
        raise cannot_export("torch.onnx", error) from error
    _tidy(model)
    onnx.helper.set_model_props(model, student.metadata())
    try:
        onnx.save(model, path)
    except OSError:
        raise
    except Exception as error:  # such as more than 2 GB, the limit of protobuf
        raise cannot_export("onnx", error) from error


def _tidy(model: ModelProto) -> None:
    """Names the batch dimension and drops the exporter's notes, which take space and contain local paths."""
    graph = model.graph
    for noted in (graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        del noted.metadata_props[:]
    del graph.value_info[:]  # inner shapes, which onnxruntime infers by itself
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = _BATCH


def read_onnx(path: Path) -> Callable[[Tensor], Tensor]:
    """Checks the model in ``path`` and loads it to run on the CPU with PyTorch's number of threads.

    Raises the exceptions of onnx and onnxruntime if the model is not valid.
    """
    import onnx
    import onnxruntime

    onnx.checker.check_model(path, full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def predict(images: Tensor) -> Tensor:
        (logits,) = session.run([LOGITS], {IMAGES: images.numpy()})
        return torch.from_numpy(logits)

    return predict
