"""A session of onnxruntime as a callable."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import Tensor

from dfad_fast.errors import UsageError, in_one_line
from dfad_fast.importing import import_package


class OnnxSession:
    """Answers images [N, C, H, W] with the first output of an ONNX file, by onnxruntime on the CPU.

    Raises UsageError where onnxruntime is missing, or does not take the file or a single input.
    """

    def __init__(self, path: str | Path) -> None:
        runtime = import_package("onnxruntime", install="dfad-fast[onnx]")
        try:
            self._session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
            (self._input,) = (given.name for given in self._session.get_inputs())
        except Exception as error:  # of onnxruntime's own kinds
            raise UsageError(
                f"{path} is not an ONNX model with one input ({in_one_line(error)}): pass the file of a classifier"
            ) from error

    def __call__(self, images: Tensor) -> np.ndarray:
        """The model's first output for images [B, C, H, W]."""
        answer: np.ndarray = self._session.run(None, {self._input: images.cpu().numpy()})[0]
        return answer
