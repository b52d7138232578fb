"""Finds a network's weights in a file: names match except for a common prefix and the names of wrappers."""

from __future__ import annotations

import itertools
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from dfad_fast.errors import UsageError
from dfad_fast.models.loading.entries import Entry, below, entries, items, objects
from dfad_fast.models.loading.names import COUNTER, HARMLESS, by_plain_name, plain_name, prefixes
from dfad_fast.private_torch import set_module_versions


@dataclass(frozen=True)
class Fit:
    """How an entry's tensors fit a network."""

    entry: Entry
    state: dict[str, Any]
    """By the network's names."""
    unexpected: dict[str, Any]
    """By the names they would have in the network."""
    missing: list[str]
    wrong_shapes: list[str]
    unusual: list[str]
    """Tensors that cannot become dense real numbers, such as quantized ones."""

    @property
    def by_name_and_shape(self) -> bool:
        """Whether the tensors have the network's names and shapes, and none is missing or left over."""
        return not (self.missing or self.unexpected or self.wrong_shapes)

    def same_as(self, other: Fit) -> bool:
        """Whether both give the network equal values."""
        return all(_equal(value, other.state[name]) for name, value in self.state.items())


class Expected:
    """The state_dict that a network expects, by full and by plain names."""

    def __init__(self, network: nn.Module) -> None:
        self.values: dict[str, Any] = network.state_dict(keep_vars=True)
        self.own = by_plain_name(self.values)
        self.modules = by_plain_name(name for name, _ in network.named_modules())
        # Buffers that the network computes and does not save; files of older versions may hold them.
        self.computed = {plain_name(name) for name, _ in network.named_buffers()} - set(self.own)
        self.leaves = {
            name.rpartition(".")[2] for name, value in self.values.items() if not isinstance(value, Tensor)
        }
        alike: dict[object, list[str]] = {}
        for name, value in self.values.items():
            alike.setdefault(_memory(value), []).append(name)
        self.ties = {name: names for names in alike.values() for name in names if len(names) > 1}
        counters = sum(name.endswith(COUNTER) for name in self.own)
        self.least = len(self.own) - counters - sum(len(names) - 1 for names in alike.values())
        """How many tensors a file needs."""
        first = next(iter(self.own), "")
        self.prefixes = ["", *(p for p in prefixes(first) if all(n.startswith(p) for n in self.own))]

    def fit(self, entry: Entry, prefix: str) -> Fit:
        """How ``entry`` fits if its names get ``prefix``, one of the network's prefixes."""
        given = {prefix + name: value for name, value in entry.values.items()}
        state = {own: given[name] for name, own in self.own.items() if name in given}
        for name in self.values.keys() - state.keys():
            tied = next((other for other in self.ties.get(name, ()) if other in state), None)
            if tied is not None:
                state[name] = state[tied]
            elif name.endswith(COUNTER):
                state[name] = self.values[name]
        return Fit(
            entry,
            state,
            {name: value for name, value in given.items() if not self._knows(name)},
            sorted(self.values.keys() - state.keys()),
            [
                f"{name} {tuple(state[name].shape)} instead of {tuple(value.shape)}"
                for name, value in self.values.items()
                if name in state and not _same_shape(state[name], value)
            ],
            [
                f"{name} is {kind}"
                for name, value in state.items()
                if (kind := unusual(value, self.values[name]))
            ],
        )

    def _knows(self, name: str) -> bool:
        return name in self.own or name in self.computed or name.rpartition(".")[2] in HARMLESS


def _memory(value: Any) -> object:
    """Equal for names of the same tensor."""
    plain = isinstance(value, Tensor) and type(value) in (Tensor, nn.Parameter)
    if plain and value.numel() and not value.is_meta and value.layout is torch.strided:
        return value.data_ptr(), value.shape, value.stride(), value.dtype
    return id(value)


def _equal(a: object, b: object) -> bool:
    if a is b:
        return True
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.dtype == b.dtype and a.layout == b.layout and not a.is_meta and torch.equal(a, b)
    return type(a) is type(b) and not isinstance(a, Tensor) and bool(a == b)


def _agree(a: object, b: object) -> bool:
    """As equal as the narrower dtype can tell. NaN, as from a run that has diverged, agrees with NaN."""
    if not isinstance(a, Tensor) or not isinstance(b, Tensor):
        return _equal(a, b)
    if any(one.layout != torch.strided or one.is_meta or one.is_quantized for one in (a, b)):
        return _equal(a, b)
    narrow = min(a.dtype, b.dtype, key=lambda dtype: dtype.itemsize)
    own, other = (one.to(narrow).to(torch.float64) for one in (a, b))
    return own.shape == other.shape and torch.allclose(own, other, rtol=0.0, atol=0.0, equal_nan=True)


def _same_shape(value: object, expected: object) -> bool:
    if not isinstance(value, Tensor) or not isinstance(expected, Tensor):
        return True
    # PyTorch 0.3 had no 0-dim tensors, and load_state_dict still takes its files.
    return is_lazy(expected) or value.shape == expected.shape or (not expected.shape and value.shape == (1,))


def unusual(value: object, expected: object) -> str | None:
    """A description of ``value`` if it cannot become dense real numbers like ``expected``; None if it can."""
    if not isinstance(value, Tensor) or not isinstance(expected, Tensor):
        return None
    dtype = str(value.dtype).removeprefix("torch.")
    if value.is_meta and not expected.is_meta:
        return "a meta tensor, which has a shape but no values"
    if value.layout != expected.layout:
        return f"a {str(value.layout).removeprefix('torch.')} tensor"
    if value.is_quantized and not expected.is_quantized:
        return f"a quantized tensor ({dtype})"
    if value.is_complex() and not expected.is_complex():
        return f"complex ({dtype})"
    if expected.is_floating_point() and not value.is_floating_point() and value.dtype.itemsize < 4:
        return f"{dtype}, like quantized weights" if "int8" in dtype else dtype
    return None


def fits(expected: Expected, places: Iterable[Entry]) -> tuple[list[Fit], Fit | None]:
    """All fits by names and shapes, each once, and the nearest fit in case there are none."""

    def nearness(fit: Fit) -> tuple[int, float]:
        sizes = sorted([len(fit.entry.values), max(1, expected.least)])
        return len(fit.state) - len(fit.wrong_shapes), sizes[0] / sizes[1]

    def tells_more(fit: Fit, whole: Entry) -> bool:
        """Whether an error about ``fit`` says more than one about the dictionary around it."""
        part = len(fit.entry.values)
        return part == len(whole.values) or (nearness(fit)[0] > 0 and 2 * part > len(whole.values))

    fitting: list[Fit] = []
    nearest: Fit | None = None
    for whole in places:
        often = Counter(itertools.chain.from_iterable(map(prefixes, whole.values)))
        parts = ["", *(p for p, count in often.items() if count >= max(1, expected.least // 2))]
        # The empty network prefix comes last: it is reported for an entry that does not fit at all.
        for part, own in itertools.product(parts, reversed(expected.prefixes)):
            # Removing a prefix and adding it again would skip the names beside it.
            if part.endswith(own) and part and own:
                continue
            fit = expected.fit(whole.below(part) if part else whole, own)
            if fit.by_name_and_shape:
                if not any(fit.same_as(other) for other in fitting):
                    fitting.append(fit)
            elif (nearest is None or nearness(fit) >= nearness(nearest)) and tells_more(fit, whole):
                nearest = fit
    usual = [fit for fit in fitting if not fit.unusual]
    return usual or fitting[:1], nearest


def torn_ties(fit: Fit, expected: Expected) -> tuple[str, str] | None:
    """Two names of one tensor of the network that have different values in the file."""
    for name, names in expected.ties.items():
        for other in names:
            if name in fit.state and other in fit.state and not _agree(fit.state[name], fit.state[other]):
                return name, other
    return None


def state_dict_of(fit: Fit, expected: Expected) -> OrderedDict[str, Any]:
    """The state for load_state_dict, with the file's module versions."""
    state: OrderedDict[str, Any] = OrderedDict(fit.state)
    state.update(fit.unexpected)
    notes = {
        expected.modules[name]: note for name, note in fit.entry.versions.items() if name in expected.modules
    }
    if notes:
        set_module_versions(state, notes)
    return state


def choose(expected: Expected, content: object, key: str | None, file: str, what: str) -> Fit:
    """The only fit, or the nearest one if none fits.

    Raises UsageError if ``key`` is missing, the file holds nothing like weights, or several entries fit.
    """
    places = list(entries(content, expected.leaves) if key is None else below(content, key, expected.leaves))
    if not places:
        there = listing(_kinds(content))
        if key is not None:
            raise UsageError(f"{file} has no tensors under {key!r}: it holds {there}")
        raise UsageError(f"{file} holds {there}, expected a state_dict of tensors: save only the state_dict")
    fitting, nearest = fits(expected, places)
    fitting = [fit for fit in fitting if fit.entry.name == key] or fitting
    if len(fitting) > 1:
        names = [fit.entry.name for fit in fitting]
        raise UsageError(
            f"{file} holds {len(names)} different states that fit the {what}, under "
            f"{' and '.join(map(repr, names))}: choose one, such as {file}::{names[-1]}"
        )
    if fitting:
        return fitting[0]
    assert nearest is not None
    return nearest


def _kinds(content: object) -> list[str]:
    if not isinstance(content, Mapping):
        return [f"a {type(content).__name__}"]
    pickled = objects(content)
    return [
        f"{name!r} (a pickled {pickled[name]})" if name in pickled else repr(name)
        for name, _ in items(content)
    ] or ["nothing"]


def listing(names: list[str], shown: int = 5) -> str:
    """The first ``shown`` names, and how many more there are."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return f"{', '.join(names[:shown])}{more}"


def other_prefix(fit: Fit, expected: Expected) -> tuple[str, str, str] | None:
    """The file's and the network's prefix, if some names differ only by these, and one such name."""
    return _other_prefix(fit) or (
        _other_prefix(expected.fit(fit.entry.whole, "")) if fit.entry.whole else None
    )


def _other_prefix(fit: Fit) -> tuple[str, str, str] | None:
    missing, unexpected = {plain_name(name) for name in fit.missing}, set(fit.unexpected)
    if not missing or len(unexpected) != len(missing):
        return None
    first = min(missing)
    for own in ("", *prefixes(first)):
        rest = first[len(own) :]
        for name in unexpected:
            if not name.endswith(rest):
                continue
            theirs = name[: len(name) - len(rest)]
            if (not theirs or theirs.endswith(".")) and missing == {
                own + other[len(theirs) :] for other in unexpected if other.startswith(theirs)
            }:
                return theirs, own, first
    return None
