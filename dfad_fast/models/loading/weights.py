"""The user's networks and weights: factories named on the command line, state dictionaries from files."""

from __future__ import annotations

import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dfad_fast.errors import UsageError, in_one_line
from dfad_fast.importing import imported
from dfad_fast.models.loading.entries import entries, objects
from dfad_fast.models.loading.matching import (
    Expected,
    Fit,
    choose,
    listing,
    other_prefix,
    state_dict_of,
    torn_ties,
    unusual,
)
from dfad_fast.models.loading.names import plain_names
from dfad_fast.models.loading.weights_file import read_weights, split_key


def load_factory_network(spec: str) -> nn.Module:
    """Builds the network of ``pkg.module:factory`` or ``file.py:factory``, called without arguments.

    The factory is code and is run. Raises UsageError if it cannot be found, fails, or does not return an nn.Module.
    """
    source, _, name = spec.rpartition(":")
    if not source or not name:
        raise UsageError(f"a factory must be pkg.module:factory or file.py:factory, got {spec!r}")
    with imported(source) as module:
        factory = getattr(module, name, None)
        if not callable(factory):
            raise UsageError(
                f"{source} has no callable {name!r}: name a function or class that builds the network"
            )
        try:
            network = factory()
        except Exception as error:
            raise UsageError(
                f"{spec}() failed with {type(error).__name__}: {error}; a factory is called without arguments"
            ) from error
    if not isinstance(network, nn.Module):
        raise UsageError(f"{spec}() returned {type(network).__name__}, expected a torch.nn.Module")
    return network


def load_weights(network: nn.Module, path: str | Path, what: str = "network") -> None:
    """Loads a state dictionary into ``network``: a .safetensors file, or one of torch.save, read as data only.

    Accepts everything that ``load_state_dict(strict=True)`` accepts and converts it to the network's dtypes. Names may
    differ by a common prefix, and by the parts that data parallel training, torch.compile and FSDP insert. The state
    may be anywhere in the file, also in nested dictionaries; if several fit, ``FILE::KEY`` names one by its dotted
    path. Batch counters, and all but one name of a shared tensor, may be missing. Nothing in the file is executed.

    Raises UsageError for a missing or unreadable file, a network on the meta device, a missing key, several states
    that fit, tensors that cannot become dense real weights, and weights that do not fit, with the missing, unexpected
    and wrongly shaped names, or with two names of one tensor whose values differ. The network is then unchanged.
    """
    if not isinstance(path, str | Path):
        raise UsageError(
            f"the {what}'s weights must be the path of a file, got {type(path).__name__}: for a state dictionary, "
            "call load_state_dict"
        )
    file, key = split_key(path)
    expected = Expected(network)
    empty = next((name for name, value in expected.values.items() if getattr(value, "is_meta", False)), None)
    if empty is not None:
        raise UsageError(
            f"the {what}'s {empty} is on the meta device and cannot hold weights: build it on the CPU, or call "
            "to_empty(device='cpu') first"
        )
    content = read_weights(file)
    fit = choose(expected, content, key, str(file), what)
    odd = fit.unusual or _unusual_instead(fit, content)
    if odd:
        raise UsageError(
            f"{path}: {listing(odd)}: pass the {what}'s weights as dense float tensors, saved by "
            "torch.save(network.float().state_dict(), ...)"
        )
    if torn := torn_ties(fit, expected):
        raise UsageError(
            f"the weights in {file} do not fit the {what}: {' and '.join(torn)} differ in the file, but are one tensor "
            f"in the {what}: build it with two tensors, or delete one of them from the state_dict and save it again"
        )
    state = state_dict_of(fit, expected)
    try:
        if fit.by_name_and_shape:
            network.load_state_dict(state)
        else:
            _try_to_load(network, state)
    except Exception as error:
        problem = in_one_line(error) if fit.by_name_and_shape else _misfit(fit, expected, content, file, what)
        where = f"{file} under {fit.entry.name!r}" if fit.entry.name else str(file)
        raise UsageError(f"the weights in {where} do not fit the {what}: {problem}") from error


def _unusual_instead(fit: Fit, content: object) -> list[str]:
    """Quantized tensors under other names, if the network's are missing: quantized networks save theirs this way."""
    if not fit.missing:
        return []
    there: dict[str, Tensor] = {}
    for entry in entries(content, set()):
        if entry.name == fit.entry.name:
            there |= entry.values
    plain = torch.empty(0)
    return [
        f"{name} is {unusual(value, plain)}"
        for name, value in there.items()
        if value.is_quantized or value.dtype == torch.int8
    ]


def _try_to_load(network: nn.Module, state: OrderedDict[str, Any]) -> None:
    """For networks that rename entries of their older versions themselves."""
    live = network.state_dict()
    kept = {name: value.clone() for name, value in live.items() if isinstance(value, Tensor)}
    try:
        network.load_state_dict(state)
    except Exception:
        with torch.no_grad():
            for name, value in kept.items():
                live[name].copy_(value)
        raise


def _misfit(fit: Fit, expected: Expected, content: object, file: Path, what: str) -> str:
    """The problem and its remedy."""
    prefix = other_prefix(fit, expected)
    if prefix is not None:
        theirs, own = (f"begin with {name!r}" if name else "have no prefix" for name in prefix[:2])
        return (
            f"some names, such as {prefix[2]}, differ by a prefix: in the file they {theirs}, in the {what} they "
            f"{own}: rename them in the file"
        )
    problems = {
        "missing": fit.missing,
        "unexpected": sorted(fit.unexpected),
        "wrong shape": fit.wrong_shapes,
    }
    listed = "; ".join(f"{label}: {listing(names)}" for label, names in problems.items() if names)
    return f"{listed}: {_advice(fit, content, file, what)}"


def _advice(fit: Fit, content: object, file: Path, what: str) -> str:
    if fit.missing and (shard := re.search(r"-\d{5}-of-(\d{5})\.", file.name)):
        return f"the file is one of {int(shard[1])} shards: save the weights of all in one file"
    if not (fit.missing or fit.unexpected):
        return "the names match, so use the widths, classes and image shape that it was trained with"
    for name, kind in objects(content).items():
        if name in {"model", "network", "net", "ema", "teacher", "student"}:
            return (
                f"its {name!r} is a pickled {kind}, which is not loaded because that could run code: save "
                f"{name}.state_dict()"
            )
    known = _known_by_names(fit)
    if known:
        return f"its names are those of {known}: choose that one as the {what}"
    return (
        f"choose the network that this file was saved from as the {what}, or a file saved from this network"
    )


def _known_by_names(fit: Fit) -> str | None:
    """This library's network with the file's names."""
    from dfad_fast.models.zoo.registry import NETWORKS

    names = plain_names(fit.entry.values)
    with torch.device("meta"):
        for name, make in NETWORKS.items():
            if plain_names(make((3, 32, 32), 10).state_dict()) == names:
                return name
    return None
