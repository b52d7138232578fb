"""The layers of a student that are compressed, and how their weights are constrained while it is tuned."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from dfad_fast.errors import UsageError
from dfad_fast.exporting.compressing.few_values import Binary, FewValues, Masked, Ternary

FEW_VALUES: dict[str, type[FewValues]] = {"binary": Binary, "ternary": Ternary}
_WITH_OUTPUTS_FIRST = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def layers_of(student: nn.Module, how: str) -> list[nn.Module]:
    """The linear and convolution layers of ``student`` that are compressed.

    These are all for ``pruned``. For ``binary`` and ``ternary`` these are all but the first and the last, as in
    XNOR-Net (arXiv 1603.05279), and no transposed convolutions.

    Raises UsageError if none is left, and for layers that share a weight or compute theirs.
    """
    kinds = (*_WITH_OUTPUTS_FIRST, *_TRANSPOSED) if how == "pruned" else _WITH_OUTPUTS_FIRST
    found = [(name, module) for name, module in student.named_modules() if isinstance(module, kinds)]
    chosen = found if how == "pruned" else found[1:-1]
    if not chosen:
        least = "1" if how == "pruned" else "3, since the first and the last one keep full precision"
        raise UsageError(
            f"the student has {len(found)} linear and convolution layers, but {how} needs at least {least}"
        )
    for name, module in chosen:
        if not isinstance(module._parameters.get("weight"), Tensor):
            raise UsageError(
                f"the student's {name} computes its weight, which cannot be {how}: leave out --compress"
            )
    owners: dict[int, str] = {}
    for name, module in student.named_modules():
        for weight in module._parameters.values():
            other = owners.setdefault(id(weight), name)
            if weight is not None and other != name and {other, name} & {own for own, _ in chosen}:
                raise UsageError(
                    f"the student's {other} and {name} share a weight, which cannot be {how}: leave out --compress"
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
    # Not torch.nn.utils.prune: it masks a weight in a hook of its layer, past which nn.MultiheadAttention reads it.
    if how == "pruned":
        constraints: list[nn.Module] = [Masked(mask) for mask in _masks(layers, sparsity)]
    else:
        constraints = [FEW_VALUES[how]() for _ in layers]
    for layer, constraint in zip(layers, constraints, strict=True):
        parametrize.register_parametrization(layer, "weight", constraint)
    try:
        yield
    finally:
        for layer, as_before in zip(layers, laid_out, strict=True):
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
            packed = int(weight.count_nonzero()) * weight.element_size() + _whole_bytes(weight.numel())
        else:
            bits = weight.numel() * FEW_VALUES[how].bits
            packed = _whole_bytes(bits) + len(weight) * weight.element_size()
        size += packed - weight.nbytes
    return size


def _whole_bytes(bits: int) -> int:
    return -(-bits // 8)
