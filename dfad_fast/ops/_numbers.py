"""Numbers as callers pass them: Python's, numpy's, or tensors of one element, which may require a gradient."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import torch

from dfad_fast import backends

Number: TypeAlias = float | torch.Tensor
"""A tensor here is 0-dim. It gets a gradient, or its value cannot be read (in a transform or torch.compile)."""


def number(op: str, name: str, value: Any) -> Number:
    """``value`` as a float for the kernels, or as a 0-dim tensor for the reference if it gets a gradient.

    Callers skip this for a plain float. Raises TypeError or ValueError if ``value`` is not one real number.
    """
    if isinstance(value, int | float):
        return value
    if isinstance(value, torch.SymInt | torch.SymFloat):  # from torch.compile
        return value  # type: ignore[return-value]
    if not isinstance(value, torch.Tensor | np.generic | np.ndarray):
        raise TypeError(f"{op}: {name} must be a number, got {type(value).__name__}")
    shape = list(value.shape)
    if any(size != 1 for size in shape):
        raise ValueError(f"{op}: {name} must be one number, got shape {shape}")
    if not isinstance(value, torch.Tensor):
        if value.dtype.kind not in "fiu":
            raise TypeError(f"{op}: {name} must be a real number, got {value.dtype}")
        return float(value.item())
    if value.is_complex() or value.dtype == torch.bool:
        raise TypeError(f"{op}: {name} must be a real number, got {str(value.dtype).removeprefix('torch.')}")
    return value.reshape(()) if _is_differentiated(value) else float(value)


def constant(op: str, name: str, value: Any) -> float:
    """The same for a number that gets no gradient. Raises ValueError if it requires one."""
    plain = number(op, name, value)
    if isinstance(plain, torch.Tensor):
        raise ValueError(f"{op}: {name} gets no gradient and must not require one, pass float({name})")
    return plain


def known_value(value: Number) -> float | None:
    """The number, or None if it cannot be read."""
    if not isinstance(value, torch.Tensor):
        return value
    return None if _is_traced() else float(value.detach())


def _is_traced() -> bool:
    return torch.compiler.is_compiling() or backends.inside_transform()


def _is_differentiated(value: torch.Tensor) -> bool:
    if value.requires_grad or _is_traced():
        return True
    return torch.autograd.forward_ad.unpack_dual(value).tangent is not None
