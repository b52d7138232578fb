"""The user's own terms, sources and methods, from files or installed packages."""

from __future__ import annotations

import importlib
import importlib.metadata
import warnings
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import TypeVar

from dfad_fast.errors import DFADFastWarning, UsageError
from dfad_fast.importing import imported
from dfad_fast.methods import METHODS, Method
from dfad_fast.sources import SOURCES, SourceSpec
from dfad_fast.terms import TERMS, Term

GROUP = "dfad_fast.plugins"
T = TypeVar("T")
_OWN_TERMS, _OWN_SOURCES, _OWN_METHODS = dict(TERMS), dict(SOURCES), dict(METHODS)


def load_plugins(sources: Iterable[str] = ()) -> None:
    """Loads and registers the plugins of installed packages and of ``sources``.

    An installed package names its plugins as entry points in the group ``dfad_fast.plugins``. A source is
    ``pkg.module`` or ``file.py``. A plugin is code, and loading runs it. Afterwards expressions and the command line
    know its Term and SourceSpec classes and Method objects by name; a later plugin may replace those of an earlier
    one. Raises UsageError for a module that cannot be imported, defines none of these, or uses a name of this
    library. For an installed package's plugin this is only a warning, because the user may not have asked for it.
    """
    for entry in importlib.metadata.entry_points(group=GROUP):
        try:
            # Not imported like a source: a file in the current folder must not replace an installed module.
            _register(entry.value, importlib.import_module(entry.module))
        except Exception as error:
            text = f"plugin {entry.value} is skipped: {type(error).__name__}: {error}"
            warnings.warn(text, DFADFastWarning, stacklevel=2)
    for source in sources:
        with imported(source) as module:
            _register(source, module)


def _register(source: str, module: ModuleType) -> None:
    terms = _named(module, Term, _OWN_TERMS)
    sources = _named(module, SourceSpec, _OWN_SOURCES)
    methods = _methods(module)
    if not terms and not sources and not methods:
        raise UsageError(f"plugin {source} holds no Term or SourceSpec class and no Method")
    for name in terms:
        _refuse_known(source, "term", name, _OWN_TERMS)
    for name in sources:
        _refuse_known(source, "source", name, _OWN_SOURCES)
    for method in methods:
        _refuse_known(source, "method", method.name, _OWN_METHODS)
    TERMS.update(terms)
    SOURCES.update(sources)
    METHODS.update({method.name: method for method in methods})


def _refuse_known(source: str, kind: str, name: str, known: Iterable[str]) -> None:
    if name in known:
        raise UsageError(f"plugin {source}: {name!r} is already a {kind} of dfad_fast: choose another name")


def _named(module: ModuleType, kind: type[T], own: Mapping[str, type[T]]) -> dict[str, type[T]]:
    """The module's classes of this kind, by name, without this library's."""
    found = {}
    for value in vars(module).values():
        if isinstance(value, type) and issubclass(value, kind) and value not in own.values():
            name = getattr(value, "name", None)
            if isinstance(name, str) and name:
                found[name] = value
    return found


def _methods(module: ModuleType) -> list[Method]:
    ours = list(_OWN_METHODS.values())
    values = (value for value in vars(module).values() if isinstance(value, Method))
    return [method for method in values if not any(method is own for own in ours)]
