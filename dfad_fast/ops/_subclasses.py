"""Support in the references for tensor subclasses with their own dispatch, such as DTensor."""

from __future__ import annotations

import torch

from dfad_fast import backends


def beside(plain: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """``plain``, equal in every process, in a form that combines with ``x``: replicated on the mesh of a DTensor."""
    mesh = getattr(x, "device_mesh", None)
    if mesh is None or hasattr(plain, "device_mesh"):
        return plain
    from torch.distributed.tensor import DTensor, Replicate

    return DTensor.from_local(plain, mesh, [Replicate()] * mesh.ndim, run_check=False)


def check_same_kind(op: str, student: torch.Tensor, teacher: torch.Tensor, stage: str) -> None:
    """Raises TypeError if one of them is a DTensor or similar and the other is of another class."""
    kinds = type(student), type(teacher)
    if kinds[0] is not kinds[1] and any(map(backends.is_opaque, kinds)):
        raise TypeError(
            f"{op}: student{stage} and teacher{stage} must be of one class, got {kinds[0].__name__} and "
            f"{kinds[1].__name__}: pass full_tensor() or to_local() of a DTensor"
        )
