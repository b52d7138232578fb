"""Imports a user's code, a module or a file, and optional packages."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from dfad_fast.errors import UsageError, in_one_line

_FILES: set[str] = set()  # names of modules that came from files


def import_package(package: str, module: str | None = None, install: str | None = None) -> Any:
    """An optional package, or a ``module`` that needs it.

    Raises UsageError if it is missing or broken, with the command that installs ``install`` (default: the package).
    """
    try:
        return importlib.import_module(module or package)
    except Exception as error:  # a package that does not fit the other ones may raise anything
        reason = in_one_line(error)
        raise UsageError(
            f"{package} is not installed or cannot be imported ({reason}): pip install {install or package}"
        ) from error


@contextmanager
def imported(source: str) -> Iterator[ModuleType]:
    """The module ``pkg.module`` or ``file.py``. Inside the block the user's code can also import files beside it.

    These are a file's neighbors, or, for a module, the files in the current folder. Raises UsageError if the code is
    not found or fails.
    """
    file = Path(os.path.expanduser(source)) if source.endswith(".py") else None
    with _importable((file.parent if file else Path()).resolve()):
        yield _import_file(file) if file else _import_module(source)


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    entry = str(folder)
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        if entry in sys.path:
            sys.path.remove(entry)


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise UsageError(f"no file {path} to import: give its path from the current folder, {Path.cwd()}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    there = sys.modules.get(path.stem)
    if there is not None and path.stem not in _FILES:
        if getattr(there, "__file__", None) == str(path.absolute()):
            return there  # already imported by name
        raise UsageError(f"{path} has the name of a module that is in use ({path.stem}): rename the file")
    _FILES.add(path.stem)
    sys.modules[path.stem] = module  # as import does: dataclasses and pickle look up a class's module there
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[path.stem]
        raise UsageError(f"{path} could not be imported: {type(error).__name__}: {error}") from error
    return module


def _import_module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        missing = isinstance(error, ModuleNotFoundError) and name.startswith(error.name or "?")
        hint = ": change to the folder that contains it, or add that folder to PYTHONPATH" if missing else ""
        raise UsageError(
            f"module {name!r} could not be imported: {type(error).__name__}: {error}{hint}"
        ) from error
