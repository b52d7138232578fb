"""The places in a file's content that hold tensors, at any depth."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from dfad_fast.models.loading.names import by_plain_name, plain_name
from dfad_fast.models.loading.weights_file import Ignored
from dfad_fast.private_torch import module_versions


@dataclass(frozen=True)
class Entry:
    """A place in a file that holds tensors: a dictionary, or its entries with a common prefix."""

    name: str
    """Its dotted path; empty for the whole file."""
    values: dict[str, Any]
    """By plain names relative to the entry."""
    versions: Mapping[str, Any] = field(default_factory=dict)
    """The module versions that PyTorch stores with a state_dict, by plain names relative to the entry."""
    whole: Entry | None = None
    """The whole dictionary, if this is a part of one."""

    def below(self, prefix: str) -> Entry:
        """The part whose names begin with ``prefix``."""
        start = len(prefix)
        return Entry(
            ".".join(part for part in (self.name, prefix.rstrip(".")) if part),
            {name[start:]: value for name, value in self.values.items() if name.startswith(prefix)},
            {name[start:]: note for name, note in self.versions.items() if f"{name}.".startswith(prefix)},
            self.whole or self,
        )


def entries(content: object, leaves: set[str]) -> Iterator[Entry]:
    """Every dictionary or list in ``content`` that holds tensors, with and without its nested content.

    Values whose name ends with one of ``leaves`` are not searched further.
    """
    seen: set[int] = set()
    waiting: list[tuple[str, object]] = [("", content)]
    while waiting:
        path, node = waiting.pop(0)
        if id(node) in seen:
            continue
        seen.add(id(node))
        inner = {name: value for name, value in items(node) if _holds_more(name, value, leaves)}
        direct = {name: value for name, value in items(node) if _is_leaf(name, value, leaves)}
        deep = dict(_flat(node, leaves, ()))
        for values in [direct, deep] if inner and direct else [deep]:
            if values:
                yield _entry(path, values, module_versions(node))
        waiting += [(f"{path}.{name}" if path else name, value) for name, value in inner.items()]


def _entry(path: str, values: dict[str, Any], versions: Mapping[str, Any]) -> Entry:
    return Entry(
        path,
        {plain: values[name] for plain, name in by_plain_name(values).items()},
        {plain: versions[name] for plain, name in by_plain_name(map(str, versions)).items()},
    )


def items(node: object) -> Iterable[tuple[str, Any]]:
    """The named values of a mapping, list or tuple; none for anything else."""
    if isinstance(node, Mapping):
        return [(_text(name), value) for name, value in node.items()]
    return [(str(index), value) for index, value in enumerate(node)] if isinstance(node, list | tuple) else []


def _text(name: object) -> str:
    """A key as text. Files of Python 2 have bytes."""
    return name.decode(errors="replace") if isinstance(name, bytes) else str(name)


def _is_leaf(name: str, value: object, leaves: set[str]) -> bool:
    return isinstance(value, Tensor) or name.rpartition(".")[2] in leaves


def _holds_more(name: str, value: object, leaves: set[str]) -> bool:
    return isinstance(value, Mapping | list | tuple) and not _is_leaf(name, value, leaves)


def _flat(node: object, leaves: set[str], above: tuple[int, ...]) -> Iterator[tuple[str, Any]]:
    """All tensors in ``node``, by dotted paths; ``above`` are the containers around it."""
    if id(node) in above:
        return
    for name, value in items(node):
        if _is_leaf(name, value, leaves):
            yield name, value
        elif _holds_more(name, value, leaves):
            for rest, deeper in _flat(value, leaves, (*above, id(node))):
                yield f"{name}.{rest}", deeper


def below(content: object, key: str, leaves: set[str]) -> list[Entry]:
    """The entries of ``content`` at the dotted path ``key`` and inside it."""
    found = list(entries(content, leaves))
    inside = [e for e in found if e.name == key or e.name.startswith(f"{key}.")]
    if inside:
        return inside
    for whole in found:
        path = f"{whole.name}." if whole.name else ""
        if key.startswith(path):
            part = whole.below(f"{plain_name(key[len(path) :])}.")
            if part.values:
                return [part]
    return []


def objects(content: object) -> dict[str, str]:
    """The classes of the objects in ``content`` that were not unpickled, by the objects' names."""
    return {name: value.name for name, value in items(content) if isinstance(value, Ignored)}
