"""Reads a file of weights without running code from it."""

from __future__ import annotations

import os
import pickle
import warnings
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch

from dfad_fast.errors import UsageError, in_one_line
from dfad_fast.models.loading.other_files import described, names_in
from dfad_fast.private_torch import refused_container, refused_global

KEY = "::"
_STAND_IN = "StandIn"


class Ignored:
    """Placeholder for an object of the file that is not a tensor: accepts any pickle operation and does nothing."""

    name = ""

    def __init__(self, *_args: object, **_settings: object) -> None:
        pass

    def __setstate__(self, _state: object) -> None:
        pass


class _IgnoredMapping(Ignored):
    """The same for an object that is filled like a dictionary."""

    def __new__(cls, *_args: object, **_settings: object) -> Any:
        return OrderedDict()


class _IgnoredList(list[Any]):
    """The same for an object that is filled like a list."""

    def __new__(cls, *_args: object, **_settings: object) -> Any:
        return super().__new__(cls)

    def __init__(self, *_args: object, **_settings: object) -> None:
        super().__init__()

    def __setstate__(self, _state: object) -> None:
        pass


class _IgnoredPlainList(Ignored):
    """The same for torch before 2.14, which fills only plain lists and rejects one with a state beside its items."""

    def __new__(cls, *_args: object, **_settings: object) -> Any:
        return []


def split_key(weights: str | Path) -> tuple[Path, str | None]:
    """The file and the key of ``FILE`` or ``FILE::KEY``, with ``~`` as the home folder."""
    weights = os.path.expanduser(weights)
    file, separator, key = weights.rpartition(KEY)
    if not separator or os.path.exists(weights):
        return Path(weights), None
    return Path(file), key


def read_weights(path: Path) -> Any:
    """The content of a .safetensors file, or the tensors and plain values of a torch.save file.

    :class:`Ignored` replaces objects of other classes, which are not created. Raises UsageError for a file that is
    missing, cannot be read, or is a program.
    """
    if os.path.isdir(path):
        raise UsageError(f"{path} is a folder: name the file of weights in it")
    if not os.path.isfile(path):
        raise UsageError(
            f"no weights file {path}: expected a .safetensors file or a state_dict saved by torch.save"
        )
    try:
        return _read_safetensors(path) if _is_safetensors(path) else _read_pickle(path)
    except UsageError:
        raise
    except Exception as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> UsageError:
    if isinstance(error, PermissionError):
        return UsageError(f"{path} could not be read as weights: {in_one_line(error)}")
    if _is_program(path):
        return UsageError(f"{path} is a program, not a file of weights: pass it as --teacher {path}")
    if told := described(path):
        return UsageError(f"{path} {told}")
    if isinstance(error, pickle.UnpicklingError):
        return UsageError(
            f"{path} is damaged, or holds more than tensors and is not loaded because that could run code: use a "
            "file saved by torch.save(network.state_dict(), ...), or a .safetensors file"
        )
    return UsageError(f"{path} could not be read as weights: {in_one_line(error)}")


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118, not a dictionary
        # save_model saves a shared tensor under one of its names and records the others.
        for dropped, kept in (file.metadata() or {}).items():
            if dropped not in state and kept in state:
                state[dropped] = state[kept]
    return state


def _read_pickle(path: Path) -> Any:
    try:
        foreign = sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except (ValueError, RuntimeError, OSError):  # the format before PyTorch 1.6, or not such a file
        foreign = []
    kinds: dict[str, type] = {}
    while True:
        stand_ins: list[Any] = [
            (type(f"{_STAND_IN}{number}", (kinds.get(name, Ignored),), {"name": name}), name)
            for number, name in enumerate(foreign)
        ]
        try:
            with (
                torch.serialization.safe_globals(stand_ins),
                warnings.catch_warnings(),
                path.open("rb") as file,  # given a path, torch goes by its suffix
            ):
                warnings.simplefilter("ignore")  # about slow checks
                content = torch.load(file, map_location="cpu", weights_only=True)
            break
        except pickle.UnpicklingError as error:
            unknown, filled = refused_global(error), refused_container(error)
            if filled and filled[0].startswith(_STAND_IN):
                name = foreign[int(filled[0].removeprefix(_STAND_IN))]
                kinds[name] = _next_kind(kinds.get(name), filled[1], error)
            elif unknown and unknown not in foreign:
                foreign.append(unknown)
            else:
                raise
    if isinstance(content, Ignored):
        raise UsageError(
            f"{path} holds a whole object ({content.name}), which is not loaded because that could run code: save "
            "its weights with torch.save(network.state_dict(), ...)"
        )
    return content


def _next_kind(before: type | None, filled_as: str, error: Exception) -> type:
    """The next placeholder to try after torch failed with ``before``. Raises ``error`` if none is left."""
    if before is None:
        return _IgnoredList if filled_as == "list" else _IgnoredMapping
    if before is _IgnoredList:
        return _IgnoredPlainList
    raise error


def _is_safetensors(path: Path) -> bool:
    """By its content, since files get renamed: a length of 8 bytes, then a header in JSON."""
    with path.open("rb") as file:
        start = file.read(9)
    if start.startswith(b"PK"):
        return False
    return path.suffix == ".safetensors" or start[8:] == b"{"


def _is_program(path: Path) -> bool:
    """Whether the file is an archive of TorchScript or torch.export."""
    names = {name.rpartition("/")[2] for name in names_in(path)}
    return bool(names & {"constants.pkl", "archive_format", "serialized_exported_program.json"})
