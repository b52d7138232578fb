"""Checks shared by the references and the fake kernels. csrc/checks.h repeats their messages word for word."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

import torch

from dfad_fast import backends
from dfad_fast.ops._numbers import Number, known_value
from dfad_fast.ops._subclasses import check_same_kind

FLOATING = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def check_floating(op: str, name: str, tensor: torch.Tensor) -> None:
    if tensor.is_nested:
        raise TypeError(
            f"{op}: {name} must be dense, got a nested tensor: pass the tensors of unbind() one by one"
        )
    if tensor.layout is not torch.strided:
        layout = str(tensor.layout).removeprefix("torch.")
        raise TypeError(f"{op}: {name} must be dense, got layout {layout}: convert it with to_dense()")
    if tensor.is_quantized:
        raise TypeError(
            f"{op}: {name} must be dense, got {dtype_name(tensor.dtype)}: convert it with dequantize()"
        )
    if tensor.dtype not in FLOATING:
        raise TypeError(
            f"{op}: {name} must be float64, float32, float16 or bfloat16, got {dtype_name(tensor.dtype)}"
        )


def check_reduction(op: str, reduction: str) -> None:
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"{op}: reduction must be 'none', 'mean' or 'sum', got '{reduction}'")


def check_margin(op: str, margin: Number) -> None:
    value = known_value(margin)
    if (
        value is not None and not 0 <= value < math.inf
    ):  # math.isfinite rejects numbers traced by torch.compile
        raise ValueError(f"{op}: margin must be finite and not negative, got {value:g}")


def check_tensors(op: str, *values: object, names: str = "student and teacher") -> None:
    for value in values:
        if not isinstance(value, torch.Tensor):
            *first, last = (type(value).__name__ for value in values)
            raise TypeError(f"{op}: {names} must be tensors, got {', '.join(first)} and {last}")


def check_types(op: str, name: str, values: Sequence[object], kind: Any = torch.Tensor) -> None:
    for i, item in enumerate(values):
        if not isinstance(item, kind):
            raise TypeError(f"{op}: {name}[{i}] must be a tensor, got {type(item).__name__}")


def check_named_tensors(op: str, optional: Collection[str] = (), **values: object) -> None:
    """Each keyword's value must be a tensor; those named in ``optional`` may be None."""
    for name, value in values.items():
        if not isinstance(value, torch.Tensor) and not (value is None and name in optional):
            raise TypeError(f"{op}: {name} must be a tensor, got {type(value).__name__}")


def check_temperature(op: str, temperature: Number) -> None:
    value = known_value(temperature)
    if value is not None and not 0 < value < math.inf:
        raise ValueError(f"{op}: temperature must be finite and positive, got {value:g}")


def check_logits(op: str, student: torch.Tensor) -> None:
    if student.dim() < 2:
        raise ValueError(f"{op}: student and teacher must have shape [B, C, ...], got {list(student.shape)}")


def check_packed(op: str, student: torch.Tensor, signs: torch.Tensor, stage: str = "") -> None:
    """Packed signs given to the backward op, or in place of the teacher; ``stage`` as for :func:`check_pair`."""
    check_floating(op, f"student{stage}", student)
    if signs.dtype != torch.uint8:
        raise TypeError(f"{op}: signs must be packed signs (uint8), got {dtype_name(signs.dtype)}")
    size = (student.numel() + 7) // 8
    if signs.dim() != 1 or signs.shape[0] != size or not signs.is_contiguous():
        raise ValueError(
            f"{op}: packed signs for student{stage} of shape {list(student.shape)} must be {size} bytes in one "
            f"piece, got shape {list(signs.shape)}"
        )
    if student.device != signs.device:
        raise ValueError(
            f"{op}: student{stage} and its packed signs must be on the same device, "
            f"got {student.device} and {signs.device}"
        )


def check_difference_signs(op: str, signs: torch.Tensor, size: int) -> None:
    """Signs of a difference for the backward op: two separate planes of ``size`` bytes, each in one piece."""
    if (
        signs.dtype != torch.uint8
        or signs.dim() != 2
        or (signs.shape[0], signs.shape[1]) != (2, size)
        or (size > 0 and signs.stride(0) < size)
        or (size > 1 and signs.stride(1) != 1)
    ):
        raise ValueError(
            f"{op}: signs must be two planes of {size} bytes (uint8), each in one piece, as the forward op gave them, "
            f"got {dtype_name(signs.dtype)} of shape {list(signs.shape)} with strides {list(signs.stride())}"
        )


def check_pair(op: str, student: torch.Tensor, teacher: torch.Tensor, stage: str = "") -> None:
    """Dtypes, shapes and devices of one student/teacher pair; ``stage`` is its index as text, such as ``[1]``."""
    check_same_kind(op, student, teacher, stage)
    check_floating(op, f"student{stage}", student)
    check_floating(op, f"teacher{stage}", teacher)
    if student.shape != teacher.shape:
        raise ValueError(
            f"{op}: student{stage} and teacher{stage} must have the same shape (nothing is broadcast), "
            f"got {list(student.shape)} and {list(teacher.shape)}"
        )
    if student.device != teacher.device:
        raise ValueError(
            f"{op}: student{stage} and teacher{stage} must be on the same device, "
            f"got {student.device} and {teacher.device}"
        )


def check_lengths(op: str, student: Sequence[object], teacher: Sequence[object]) -> None:
    if len(student) != len(teacher):
        raise ValueError(
            f"{op}: student and teacher must be equally long lists, "
            f"got {len(student)} and {len(teacher)} tensors"
        )
    if len(student) == 0:
        raise ValueError(f"{op}: student and teacher must hold at least one tensor, got empty lists")


def check_stages(
    op: str, student: Sequence[torch.Tensor], teacher: Sequence[torch.Tensor], weights: Sequence[Number]
) -> None:
    """Stages of students and teachers; each teacher is a tensor like its student, or packed signs (uint8)."""
    check_lengths(op, student, teacher)
    if len(weights) != len(student):
        raise ValueError(
            f"{op}: weights must hold one number per stage, got {len(weights)} for {len(student)} stages"
        )
    for i, (s, t) in enumerate(zip(student, teacher, strict=True)):
        stage = f"[{i}]" if len(student) > 1 else ""
        if s.device != student[0].device:
            raise ValueError(
                f"{op}: all stages must be on the same device, got {student[0].device} and {s.device}"
            )
        if t.dtype == torch.uint8:
            check_packed(op, s, t, stage)
        else:
            check_pair(op, s, t, stage)


def check_grad(
    op: str, grad: torch.Tensor, device: torch.device, shape: tuple[int, ...], reduction: str
) -> None:
    check_floating(op, "grad", grad)
    if grad.device != device:
        raise ValueError(f"{op}: grad must be on {device}, got {grad.device}")
    if grad.shape != shape if reduction == "none" else grad.numel() != 1:
        raise ValueError(f"{op}: grad must have the loss's shape, got {list(grad.shape)}")


def check_statistics(
    op: str, statistics: torch.Tensor, device: torch.device, rows: int, dtype: torch.dtype
) -> None:
    if statistics.device != device:
        raise ValueError(f"{op}: statistics must be on {device}, got {statistics.device}")
    if statistics.shape != (5, rows) or statistics.dtype != dtype or not statistics.is_contiguous():
        raise ValueError(
            f"{op}: statistics must be the contiguous {dtype_name(dtype)} tensor of shape [5, {rows}] that the forward "
            f"op gave, got {dtype_name(statistics.dtype)} of shape {list(statistics.shape)}"
        )


def check_features(op: str, features: Sequence[torch.Tensor]) -> None:
    """At least one tensor [B, C, ...], all on one device."""
    if len(features) == 0:
        raise ValueError(f"{op}: expected at least one tensor of features, got none")
    for i, x in enumerate(features):
        stage = f"[{i}]" if len(features) > 1 else ""
        check_floating(op, f"features{stage}", x)
        if x.dim() < 2:
            raise ValueError(f"{op}: features{stage} must have shape [B, C, ...], got {list(x.shape)}")
        if x.device != features[0].device:
            raise ValueError(
                f"{op}: all features must be on the same device, got {features[0].device} and {x.device}"
            )


def check_channel_grad(
    op: str, grad: torch.Tensor, statistics: torch.Tensor, features: Sequence[torch.Tensor]
) -> None:
    """The statistics that channel_statistics saved for its backward op, and their gradient."""
    check_floating(op, "grad", grad)
    for x in (grad, statistics):
        if x.device != features[0].device:
            raise ValueError(f"{op}: grad and statistics must be on {features[0].device}, got {x.device}")
    channels = sum(x.shape[1] for x in features)
    if grad.shape != (2, channels):
        raise ValueError(
            f"{op}: grad must have the statistics' shape [2, {channels}], got {list(grad.shape)}"
        )
    if (
        statistics.shape != (2, channels)
        or statistics.dtype not in (torch.float32, torch.float64)
        or not statistics.is_contiguous()
    ):
        raise ValueError(
            f"{op}: statistics must be the contiguous tensor of shape [2, {channels}] that the forward op gave, "
            f"got {dtype_name(statistics.dtype)} of shape {list(statistics.shape)}"
        )


def check_mixing(op: str, tensors: Sequence[torch.Tensor], lam: torch.Tensor, perm: torch.Tensor) -> None:
    """All arguments of a mixture except the values of ``perm``."""
    if len(tensors) == 0:
        raise ValueError(f"{op}: expected at least one tensor to mix, got none")
    for x in tensors:
        check_floating(op, "each tensor to mix", x)
        if x.dim() == 0:
            raise ValueError(f"{op}: each tensor to mix must have a batch dimension, got a 0-dim tensor")
    batch, device = tensors[0].shape[0], tensors[0].device
    for x in tensors:
        if x.shape[0] != batch:
            raise ValueError(
                f"{op}: the tensors to mix must have the same batch size, got {batch} and {x.shape[0]}"
            )
        if x.device != device:
            raise ValueError(
                f"{op}: the tensors to mix must be on the same device, got {device} and {x.device}"
            )
    check_floating(op, "lam", lam)
    if lam.requires_grad:
        raise ValueError(f"{op}: lam gets no gradient and must not require one, pass lam.detach()")
    if lam.dim() > 1 or (lam.dim() == 1 and lam.shape[0] != batch):
        raise ValueError(f"{op}: lam must be a scalar or have shape [{batch}], got shape {list(lam.shape)}")
    if lam.device != device and not (lam.dim() == 0 and lam.device.type == "cpu"):
        raise ValueError(f"{op}: lam must be on {device} or be a scalar on the CPU, got {lam.device}")
    if perm.dtype != torch.int64:
        raise TypeError(f"{op}: perm must be int64, got {dtype_name(perm.dtype)}")
    if perm.dim() != 1 or perm.shape[0] != batch:
        raise ValueError(f"{op}: perm must have shape [{batch}], got shape {list(perm.shape)}")
    if perm.device != device:
        raise ValueError(f"{op}: perm must be on {device}, got {perm.device}")


def check_permutation(op: str, perm: torch.Tensor) -> None:
    """Values of ``perm``, if they can be read without a device sync or a graph break."""
    if perm.device.type != "cpu" or torch.compiler.is_compiling() or backends.inside_transform():
        return
    expected = f"{op}: perm must be a permutation of 0..{len(perm) - 1}"
    seen = set()
    for position, index in enumerate(perm.tolist()):
        if not 0 <= index < len(perm):
            raise ValueError(f"{expected}, got {index} at position {position}")
        if index in seen:
            raise ValueError(f"{expected}, got {index} again at position {position}")
        seen.add(index)


def check_filters(op: str, weight: torch.Tensor, tile: int) -> None:
    """3x3 filters for F(tile x tile, 3x3)."""
    if tile not in (2, 4):
        raise ValueError(f"{op}: tile must be 2 or 4, got {tile}")
    if (
        weight.dim() != 4
        or weight.shape[0] == 0
        or weight.shape[1] == 0
        or weight.shape[2] != 3
        or weight.shape[3] != 3
    ):
        raise ValueError(f"{op}: weight must have shape [K, C, 3, 3], got {list(weight.shape)}")


def _check_beside(op: str, name: str, x: torch.Tensor, weight: torch.Tensor, same_dtype: bool) -> None:
    if same_dtype and x.dtype != weight.dtype:
        raise TypeError(
            f"{op}: {name} and weight must have the same dtype, "
            f"got {dtype_name(x.dtype)} and {dtype_name(weight.dtype)}"
        )
    if x.device != weight.device:
        raise ValueError(
            f"{op}: {name} and weight must be on the same device, got {x.device} and {weight.device}"
        )


def check_convolved(
    op: str, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, same_dtype: bool = True
) -> None:
    """Images and bias of a convolution whose filters were checked before."""
    _check_beside(op, "x", x, weight, same_dtype)
    if x.dim() != 4 or x.shape[1] != weight.shape[1]:
        raise ValueError(
            f"{op}: x must have shape [N, {weight.shape[1]}, H, W] for weight of shape {list(weight.shape)} "
            f"(no groups), got {list(x.shape)}"
        )
    if bias is None:
        return
    _check_beside(op, "bias", bias, weight, same_dtype)
    if bias.dim() != 1 or bias.shape[0] != weight.shape[0]:
        raise ValueError(f"{op}: bias must have shape [{weight.shape[0]}], got {list(bias.shape)}")


def narrow_shape(x: torch.Tensor, weight: torch.Tensor, stride: int) -> tuple[int, int, int, int]:
    """Shape of the result of narrow_conv2d."""
    return (
        x.shape[0],
        weight.shape[0],
        (x.shape[2] + stride - 1) // stride,
        (x.shape[3] + stride - 1) // stride,
    )


def check_narrow(
    op: str,
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    residual: torch.Tensor | None,
    stride: int,
    slope: float,
    statistics: bool = False,
    tile: int = 0,
    same_dtype: bool = True,
) -> None:
    """All arguments of narrow_conv2d."""
    if stride not in (1, 2):
        raise ValueError(f"{op}: stride must be 1 or 2, got {stride}")
    if not 0 <= slope <= 1:
        raise ValueError(f"{op}: slope must be in [0, 1], got {slope:g}")
    if (
        weight.dim() != 4
        or weight.shape[0] == 0
        or weight.shape[1] == 0
        or weight.shape[2] != weight.shape[3]
        or weight.shape[2] not in (1, 3)
    ):
        raise ValueError(
            f"{op}: weight must have shape [K, C, 3, 3] or [K, C, 1, 1], got {list(weight.shape)}"
        )
    if tile != 0 and (tile, stride, weight.shape[2]) != (4, 1, 3):
        raise ValueError(f"{op}: tile must be 0, or 4 for 3x3 filters and a stride of 1, got {tile}")
    check_convolved(op, x, weight, bias, same_dtype)
    if statistics and (slope != 1 or residual is not None):
        raise ValueError(
            f"{op}: statistics are those of the convolution alone, without residual and activation"
        )
    if residual is not None:
        _check_narrow_result(op, "residual", residual, x, weight, stride, same_dtype)


def check_narrow_grad(
    op: str,
    grad: torch.Tensor,
    x: torch.Tensor,
    weight: torch.Tensor,
    out: torch.Tensor | None,
    stride: int,
    slope: float,
    tile: int,
) -> None:
    """All arguments of narrow_conv2d's backward op."""
    check_narrow(op, x, weight, None, None, stride, slope, tile=tile)
    if slope != 1 and out is None:
        raise ValueError(f"{op}: the gradient of an activation needs its result, got none")
    _check_narrow_result(op, "grad", grad, x, weight, stride)
    if out is not None:
        _check_narrow_result(op, "out", out, x, weight, stride)


def _check_narrow_result(
    op: str,
    name: str,
    value: torch.Tensor,
    x: torch.Tensor,
    weight: torch.Tensor,
    stride: int,
    same_dtype: bool = True,
) -> None:
    _check_beside(op, name, value, weight, same_dtype)
    shape = narrow_shape(x, weight, stride)
    if tuple(value.shape) != shape:
        raise ValueError(f"{op}: {name} must have the result's shape {list(shape)}, got {list(value.shape)}")
