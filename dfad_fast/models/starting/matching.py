"""Chooses the teacher's layer that initializes each layer of the student: by name first, then by running order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dfad_fast.models.starting.channels import Layer, Map


def match_layers(of: Map, to: Map, by_place: Mapping[str, str]) -> dict[str, str]:
    """Maps paths of the student's layers (``to``) to the teacher's (``of``) with the same operation in the same place.

    The kernels may differ. ``by_place`` maps the student's modules to the teacher's in the same place.

    Layers without a match by name are matched by running order, between the layers that names matched.
    """
    named = {
        path: by_place[path]
        for path, layer in to.layers.items()
        if path in by_place and _fits(layer, of.layers.get(by_place[path]))
    }
    own, others = list(to.layers), list(of.layers)
    positions = {path: i for i, path in enumerate(others)}
    pairs = dict(named)
    start = begin = 0
    for i in range(len(own) + 1):
        if i < len(own) and own[i] not in named:
            continue
        end = positions[named[own[i]]] if i < len(own) else len(others)
        free = [path for path in others[begin:end] if path not in named.values()]
        pairs.update(_in_order([to.layers[p] for p in own[start:i]], [of.layers[p] for p in free]))
        start, begin = i + 1, max(begin, end + 1)
    return pairs


def _in_order(own: Sequence[Layer], others: Sequence[Layer]) -> dict[str, str]:
    """The longest common sequence of layers of equal kind, kernel and stride; early ones first."""
    longest = [[0] * (len(others) + 1) for _ in range(len(own) + 1)]
    for i in reversed(range(len(own))):
        for j in reversed(range(len(others))):
            longest[i][j] = (
                longest[i + 1][j + 1] + 1
                if _same(own[i], others[j])
                else max(longest[i + 1][j], longest[i][j + 1])
            )
    pairs = {}
    i = j = 0
    while i < len(own) and j < len(others):
        if _same(own[i], others[j]):
            pairs[own[i].path] = others[j].path
            i, j = i + 1, j + 1
        elif longest[i + 1][j] > longest[i][j + 1]:
            i += 1
        else:
            j += 1
    return pairs


def _fits(layer: Layer, other: Layer | None) -> bool:
    return other is not None and layer.kind == other.kind


def _same(layer: Layer, other: Layer) -> bool:
    return layer.kind == other.kind and layer.geometry == other.geometry
