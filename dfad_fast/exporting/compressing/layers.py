"""The layers of a student that are compressed, and how their weights are constrained while it is tuned."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune

from dfad_fast.errors import UsageError
from dfad_fast.exporting.compressing.few_values import Binary, FewValues, Ternary

FEW_VALUES: dict[str, type[FewValues]] = {"binary": Binary, "ternary": Ternary}
_KINDS = (
    *(nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d),
    *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
)


def layers_of(student: nn.Module, how: str) -> list[nn.Module]:
    """The linear and convolution layers of ``student`` that are compressed.

    These are all for ``pruned``, and all but the first and the last for ``binary`` and ``ternary``, as in XNOR-Net
    (arXiv 1603.05279).

    Raises UsageError if none is left, and for layers that share a weight or compute theirs.
    """
    found = [(name, module) for name, module in student.named_modules() if isinstance(module, _KINDS)]
    chosen = found if how == "pruned" else found[1:-1]
    if not chosen:
        least = "1" if how == "pruned" else "3, the first and the last of which stay as they are"
        raise UsageError(
            f"the student has {len(found)} linear and convolution layers, and to be {how} takes at least {least}"
        )
    seen: dict[int, str] = {}
    for name, module in chosen:
        if not isinstance(module._parameters.get("weight"), Tensor):
            raise UsageError(
                f"the student's {name} computes its weight, which cannot be {how}: leave compress out"
            )
        other = seen.setdefault(id(module.weight), name)
        if other != name:
            raise UsageError(
                f"the student's {other} and {name} share a weight, which cannot be {how}: leave compress out"
            )
    return [module for _, module in chosen]


def weight_of(layer: nn.Module) -> Tensor:
    """[out, ...], or [in, ...] of a transposed convolution."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return weight


@contextmanager
def bound(layers: list[nn.Module], how: str, sparsity: float) -> Iterator[None]:
    """Constrains the weights of ``layers`` inside the block.

    They have few values or, if ``how`` is pruned, the fraction ``sparsity`` with the smallest magnitude over all layers
    stays 0. After the block they are plain parameters with these values.
    """
    laid_out = [torch.empty_like(weight_of(layer)) for layer in layers]
    if how == "pruned":
        # torch's global_unstructured takes no weights in channels_last, as a run leaves them.
        for layer, mask in zip(layers, _masks(layers, sparsity), strict=True):
            prune.custom_from_mask(layer, "weight", mask)
    else:
        for layer in layers:
            parametrize.register_parametrization(layer, "weight", FEW_VALUES[how]())
    try:
        yield
    finally:
        for layer, as_before in zip(layers, laid_out, strict=True):
            if how == "pruned":
                prune.remove(layer, "weight")
            else:
                parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
            # In the original memory format, so that an exported file gives the same bits.
            weight_of(layer).data = as_before.copy_(weight_of(layer).detach())


@torch.no_grad()
def _masks(layers: list[nn.Module], sparsity: float) -> list[Tensor]:
    """1 for each weight that stays, and 0 for the fraction with the smallest magnitude over all layers."""
    weights = [weight_of(layer) for layer in layers]
    sizes = torch.cat([weight.abs().reshape(-1) for weight in weights])
    stays = torch.ones_like(sizes)
    stays[sizes.argsort(stable=True)[: round(sparsity * len(sizes))]] = 0.0
    parts = stays.split([weight.numel() for weight in weights])
    return [part.view(weight.shape) for part, weight in zip(parts, weights, strict=True)]


@torch.no_grad()
def packed_bytes(student: nn.Module, layers: list[nn.Module], how: str) -> int:
    """The size of ``student`` in the most compact form that its weights allow.

    A pruned layer takes a bit for each weight, which says whether it is 0, and the nonzero weights. Other compressed
    layers take 1 or 2 bits for each weight, and a scale for each output channel.
    """
    size = sum(tensor.nbytes for tensor in student.state_dict().values())
    for layer in layers:
        weight = weight_of(layer)
        if how == "pruned":
            packed = int(weight.count_nonzero()) * weight.element_size() + weight.numel() // 8
        else:
            packed = weight.numel() * FEW_VALUES[how].bits // 8 + len(weight) * weight.element_size()
        size += packed - weight.nbytes
    return size
