"""Operations that move values without computing: applied to a tensor's companion too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from dfad_fast.models.starting.channels import UNKNOWN
from dfad_fast.models.starting.companions import Companions

_MOVES = frozenset(
    {
        "_unsafe_view",
        "_reshape_alias",
        "cat",
        "channel_shuffle",
        "constant_pad_nd",
        "expand",
        "flip",
        "index_select",
        "permute",
        "pixel_shuffle",
        "pixel_unshuffle",
        "repeat",
        "roll",
        "select",
        "slice",
        "split",
        "split_with_sizes",
        "squeeze",
        "stack",
        "t",
        "transpose",
        "unbind",
        "unsqueeze",
        "view",
    }
)
_REDUCTIONS = frozenset({"mean", "sum", "amax", "amin", "std", "var"})


def moved(
    func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], companions: Companions
) -> list[Tensor | None] | None:
    """The companions of the result of ``func`` on ``args``; None if it is not such an operation, or unknown."""
    name = func.overloadpacket.__name__
    given: Any = args[0] if args else None
    tensors = given if isinstance(given, (tuple, list)) else [given]
    if name not in _MOVES or not any(
        isinstance(x, Tensor) and companions.get(x) is not None for x in tensors
    ):
        return None
    own = [_companion(x, companions) for x in tensors]
    if name in ("view", "_unsafe_view", "_reshape_alias"):
        return [own[0].reshape(args[1])]
    if name == "constant_pad_nd":
        return [torch.constant_pad_nd(own[0], args[1], UNKNOWN)]
    further = [x.to(own[0].device) if isinstance(x, Tensor) else x for x in args[1:]]  # such as an index
    result = func(own if isinstance(given, (tuple, list)) else own[0], *further, **kwargs)
    return list(result) if isinstance(result, (tuple, list)) else [result]


def reduced(
    name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], companions: Companions
) -> Tensor | None:
    """The companion of a reduction such as a mean; None if it is not such an operation, or unknown."""
    if name not in _REDUCTIONS or len(args) < 2 or not isinstance(args[1], (tuple, list, int)):
        return None
    companion = companions.get(args[0])
    if companion is None:
        return None
    dims = [args[1]] if isinstance(args[1], int) else list(args[1])
    dims = [dim % companion.dim() for dim in dims] or list(range(companion.dim()))
    keeps = kwargs.get("keepdim", any(arg is True for arg in args[2:]))
    highest = companion.amax(dims, keepdim=True)
    alike = ((companion == highest) | (companion == UNKNOWN)).all(dim=tuple(dims), keepdim=True)
    found = torch.where(alike, highest, UNKNOWN)
    return found if keeps else found.squeeze(dims)


def _companion(tensor: Tensor, companions: Companions) -> Tensor:
    own = companions.get(tensor)
    return torch.full(tensor.shape, UNKNOWN, device="cpu") if own is None else own
