"""The precision of statistics and losses, and the tolerance up to which networks count as equal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """``x``, converted to float32 if its dtype is narrower."""
    return x.float() if x.dtype.itemsize < 4 else x


def finite_log_softmax(logits: Tensor) -> Tensor:
    """Log-probabilities over dimension 1, in float32 or wider, finite even for a class masked by -inf.

    The masked class has probability 0. The product of probability and log-probability and its gradient are 0 too,
    unlike 0 times -inf.
    """
    log_p = at_least_float32(logits).log_softmax(1)
    return log_p.clamp(min=torch.finfo(log_p.dtype).min)


def tolerance(answer: Tensor) -> float:
    """The error, relative to the largest output, up to which two ways to compute a network count as equal."""
    # TensorFloat-32, the default in convolutions on a GPU, keeps 10 bits.
    tensor_cores = answer.device.type == "cuda" and answer.dtype == torch.float32
    return (2.0**-10 if tensor_cores else torch.finfo(answer.dtype).eps) ** 0.5


@contextmanager
def without_tensor_float32() -> Iterator[None]:
    """Within it float32 on a GPU is computed in its 24 bits, in the whole process."""
    backends: Any = torch.backends
    operations = backends.cudnn.conv, backends.cudnn.rnn, backends.cuda.matmul
    before = [operation.fp32_precision for operation in operations]
    try:
        for operation in operations:
            operation.fp32_precision = "ieee"
        yield
    finally:
        for operation, precision in zip(operations, before, strict=True):
            operation.fp32_precision = precision
