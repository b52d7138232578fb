"""Which of the teacher's layers each of the student's is begun from: by name first, by the order of running second."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dfad_fast.models.starting.channels import Layer, Map


def match_layers(of: Map, to: Map, by_place: Mapping[str, str]) -> dict[str, str]:
    """The paths of the student's layers (``to``), each with that of the teacher's (``of``) that does the same in its
    place, if with another kernel. ``by_place`` names the teacher's modules that have the places of the student's.

    What no name matches is matched in the order of running, between the layers that names matched.
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
    """The longest common row of layers of one kind, kernel and stride, with early ones first."""
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
