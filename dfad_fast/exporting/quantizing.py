"""An ONNX model in 8-bit integers, calibrated on generated images, so it needs no data either."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from torch import Tensor

from dfad_fast.errors import RunError, in_one_line
from dfad_fast.exporting.onnx_file import IMAGES
from dfad_fast.exporting.quiet import quietly

_BATCH = 8  # onnxruntime keeps every activation of a batch


class _Batches:
    """Calibration images with the interface of onnxruntime's CalibrationDataReader."""

    def __init__(self, images: Tensor) -> None:
        self._batches = iter(images.split(_BATCH))

    def get_next(self) -> dict[str, Any] | None:
        batch = next(self._batches, None)
        return None if batch is None else {IMAGES: batch.numpy()}


def quantize(model: Path, images: Tensor, path: Path) -> None:
    """Writes the model in file ``model`` to ``path`` with weights and activations in 8 bits.

    Weights have one scale per output channel. Activations have one scale per tensor, from its smallest and largest
    value over ``images`` [N, C, H, W]. Batch norm is first folded into the convolution before it; without one it stays
    in float32. The model has the QDQ form that onnxruntime recommends.

    Activations are unsigned and weights signed, as x86 instructions require. Weights use only 7 of their 8 bits:
    processors without VNNI add two products in 16 bits, where 2 * 255 * 127 overflows and 2 * 255 * 64 does not. So
    the file gives the same results there. Source: onnxruntime's manual, "Quantize ONNX models", section on data types.

    Raises RunError if onnxruntime cannot quantize the model.
    """
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    metadata = {prop.key: prop.value for prop in onnx.load(model).metadata_props}
    with tempfile.TemporaryDirectory() as folder:
        folded, quantized = Path(folder) / "folded.onnx", Path(folder) / "quantized.onnx"
        try:
            with quietly():
                quant_pre_process(model, folded, skip_symbolic_shape=True)
                quantize_static(
                    folded,
                    quantized,
                    _Batches(images),
                    quant_format=QuantFormat.QDQ,
                    per_channel=True,
                    reduce_range=True,
                    activation_type=QuantType.QUInt8,
                    weight_type=QuantType.QInt8,
                    calibrate_method=CalibrationMethod.MinMax,
                )
        except Exception as error:
            reason = in_one_line(error)
            raise RunError(f"onnxruntime cannot quantize the student ({reason}): leave --int8 out") from error
        result = onnx.load(quantized)
    onnx.helper.set_model_props(result, {**metadata, "precision": "int8"})
    onnx.save(result, path)
