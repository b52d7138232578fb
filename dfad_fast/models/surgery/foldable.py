"""Finds batch norm layers that can be folded into the layer before them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from typing import NamedTuple

from torch import nn

from dfad_fast.models.reading.data_flow import DataFlow
from dfad_fast.private_torch import has_hooks

# By exact type, because a subclass may compute something else.
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, *TRANSPOSED)


class Pair(NamedTuple):
    """Paths of a convolution or linear layer and of the batch norm layer that is the only user of its output."""

    layer: str
    norm: str


def find_pairs(network: nn.Module, flow: DataFlow, watched: Collection[str]) -> list[Pair]:
    """All pairs in ``network``, which is in eval mode.

    Skips modules that share parameters, have two names or are read by other code, and pairs with an observed output
    between them, by a hook or because it is in ``watched``.
    """
    modules = dict(network.named_modules(remove_duplicate=False))
    paths = {module: path for path, module in modules.items()}
    shared = _shared(modules)

    def is_its_own(module: nn.Module) -> bool:
        tensors = (*module.parameters(), *module.buffers())
        return shared.isdisjoint({id(module), *map(id, tensors)}) and not flow.reads_inside(module)

    def is_unseen(pair: Pair) -> bool:
        around_layer, around_norm = set(upwards(pair.layer)), set(upwards(pair.norm))
        hooked = any(has_hooks(modules[path]) for path in around_layer ^ around_norm)
        return not hooked and (around_layer - around_norm).isdisjoint(watched)

    pairs = []
    for norm in filter(_is_constant, paths):
        layer = flow.sole_source(norm)
        if layer is not None and type(layer) in LAYERS and is_its_own(layer) and is_its_own(norm):
            pair = Pair(paths[layer], paths[norm])
            if is_unseen(pair):
                pairs.append(pair)
    return pairs


def _shared(modules: dict[str, nn.Module]) -> set[int]:
    """Ids of the modules that have several paths, and of the tensors that several modules own."""
    named = Counter(map(id, modules.values()))
    owned = Counter(
        id(tensor)
        for module in set(modules.values())
        for _, tensor in (
            *module.named_parameters(recurse=False, remove_duplicate=False),
            *module.named_buffers(recurse=False, remove_duplicate=False),
        )
    )
    return {key for key, count in (named + owned).items() if count > 1}


def _is_constant(module: nn.Module) -> bool:
    """Whether it is a batch norm layer that scales and shifts every batch equally."""
    return type(module) in NORMS and not module.training and module.running_mean is not None


def upwards(path: str) -> Iterator[str]:
    """``path`` and the paths of all enclosing modules, up to the network itself."""
    while path:
        yield path
        path = path.rpartition(".")[0]
    yield ""
