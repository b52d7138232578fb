"""A user's own networks and weights: factories named on the command line, state dictionaries from files."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from torch import Tensor, nn

from dfad_fast.errors import UsageError
from dfad_fast.importing import imported

_SHOWN_KEYS = 5


def load_factory_network(spec: str) -> nn.Module:
    """Builds the network of ``pkg.module:factory`` or ``file.py:factory``, called without arguments.

    The factory is code and is run. Raises UsageError where it cannot be found, fails, or returns something
    that is no nn.Module.
    """
    source, _, name = spec.rpartition(":")
    if not source or not name:
        raise UsageError(f"a factory is given as pkg.module:factory or file.py:factory, got {spec!r}")
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
    """Loads a state dictionary into ``network``: a .safetensors file, or one that torch.load reads weights_only.

    A dictionary wrapped as ``{"state_dict": ...}`` or ``{"model": ...}`` and the ``module.`` prefix of data
    parallel training are understood. Nothing in the file is executed.

    Raises UsageError for a missing or unreadable file and for weights that do not fit, with the missing, the
    unexpected and the wrongly shaped keys.
    """
    state = _read_state(Path(path))
    expected = network.state_dict()
    if not any(key.startswith("module.") for key in expected):
        state = {key.removeprefix("module."): value for key, value in state.items()}
    problems = [
        _listing("missing", sorted(expected.keys() - state.keys())),
        _listing("unexpected", sorted(state.keys() - expected.keys())),
        _listing(
            "wrong shape",
            [
                f"{key} {tuple(state[key].shape)} instead of {tuple(value.shape)}"
                for key, value in expected.items()
                if key in state and state[key].shape != value.shape
            ],
        ),
    ]
    if any(problems):
        raise UsageError(
            f"the weights in {path} do not fit the {what}: {'; '.join(p for p in problems if p)}: "
            "give the file that was saved from this very network"
        )
    network.load_state_dict(state)


def _listing(label: str, keys: list[str]) -> str:
    if not keys:
        return ""
    more = f" and {len(keys) - _SHOWN_KEYS} more" if len(keys) > _SHOWN_KEYS else ""
    return f"{label}: {', '.join(keys[:_SHOWN_KEYS])}{more}"


def _read_state(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise UsageError(
            f"no weights file {path}: expected a .safetensors file or a state_dict saved by torch.save"
        )
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UsageError(
            f"{path} is damaged, or holds more than tensors and is not loaded since that could run code: "
            "give a file saved by torch.save(network.state_dict(), ...), or a .safetensors file"
        ) from error
    except Exception as error:
        reason = str(error).strip() or type(error).__name__
        raise UsageError(f"{path} could not be read as weights: {reason.splitlines()[0]}") from error
    for wrapper in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict):
        raise UsageError(f"{path} holds a {type(state).__name__}, expected a state_dict of tensors")
    if not all(isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()):
        keys = ", ".join(repr(key) for key in list(state)[:_SHOWN_KEYS])
        raise UsageError(
            f"{path} holds a dictionary with {keys}, expected a state_dict of tensors: save the part that is one"
        )
    return state
