"""What a file of weights holds, read without running any of it."""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch

from dfad_fast.errors import UsageError, in_one_line

KEY = "::"
_FOREIGN = re.compile(r"Unsupported global: GLOBAL (\S+) was not")
# torch fills an object like a dictionary or list only if its class is a known one.
_FILLED = re.compile(r"Can only (SETITEM|append)\w* .*StandIn(\d+)'")


class Ignored:
    """Stands for an object of the file that is no tensor. It takes whatever a pickle gives it and does nothing."""

    name = ""

    def __init__(self, *_args: object, **_settings: object) -> None:
        pass

    def __setstate__(self, _state: object) -> None:
        pass


class _IgnoredMapping(Ignored):
    """The same for an object that is filled like a dictionary: a plain one takes what it gets."""

    def __new__(cls, *_args: object, **_settings: object) -> Any:
        return OrderedDict()


class _IgnoredList(list):
    """The same for an object that is filled like a list."""

    def __new__(cls, *_args: object, **_settings: object) -> Any:
        return super().__new__(cls)

    def __init__(self, *_args: object, **_settings: object) -> None:
        super().__init__()

    def __setstate__(self, _state: object) -> None:
        pass


def split_key(weights: str | Path) -> tuple[Path, str | None]:
    """The file of ``FILE`` or ``FILE::KEY``, and the entry in it that is named."""
    file, separator, key = str(weights).rpartition(KEY)
    if not separator or Path(weights).exists():
        return Path(weights), None
    return Path(file), key


def read_weights(path: Path) -> Any:
    """What stands in a .safetensors file, or in one of torch.save; of the latter tensors and plain values only.

    Objects of other classes are not made: :class:`Ignored` takes their place. Raises UsageError for a file that is
    missing, cannot be read, or is a program.
    """
    if not path.is_file():
        raise UsageError(
            f"no weights file {path}: expected a .safetensors file or a state_dict saved by torch.save"
        )
    try:
        return _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    except UsageError:
        raise
    except pickle.UnpicklingError as error:
        raise UsageError(
            f"{path} is damaged, or holds more than tensors and is not loaded since that could run code: "
            "give a file saved by torch.save(network.state_dict(), ...), or a .safetensors file"
        ) from error
    except Exception as error:
        if _is_program(path):
            raise UsageError(
                f"{path} is a program and no file of weights: give it as --teacher {path}"
            ) from error
        raise UsageError(f"{path} could not be read as weights: {in_one_line(error)}") from error


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118, which is no dictionary
        # save_model leaves out all but one of the names of a shared tensor, and writes down which.
        for dropped, kept in (file.metadata() or {}).items():
            if dropped not in state and kept in state:
                state[dropped] = state[kept]
    return state


def _read_pickle(path: Path) -> Any:
    try:
        foreign = sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except (ValueError, RuntimeError, OSError):  # of the format before PyTorch 1.6, or no such file at all
        foreign = []
    kinds: dict[str, type] = {}
    while True:
        stand_ins: list[Any] = [
            (type(f"StandIn{number}", (kinds.get(name, Ignored),), {"name": name}), name)
            for number, name in enumerate(foreign)
        ]
        try:
            with torch.serialization.safe_globals(stand_ins), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that its checks take time
                content = torch.load(path, map_location="cpu", weights_only=True)
            break
        except pickle.UnpicklingError as error:
            filled, found = _FILLED.search(str(error)), _FOREIGN.search(str(error))
            if filled and foreign[int(filled[2])] not in kinds:
                kinds[foreign[int(filled[2])]] = _IgnoredList if filled[1] == "append" else _IgnoredMapping
            elif found and found[1] not in foreign:
                foreign.append(found[1])
            else:
                raise
    if isinstance(content, Ignored):
        raise UsageError(
            f"{path} holds a whole object ({content.name}), which is not loaded since that could run code: "
            "save its weights with torch.save(network.state_dict(), ...)"
        )
    return content


def _is_program(path: Path) -> bool:
    """Whether it is an archive of TorchScript or torch.export."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        names = {name.rpartition("/")[2] for name in archive.namelist()}
    return bool(names & {"constants.pkl", "archive_format", "serialized_exported_program.json"})
