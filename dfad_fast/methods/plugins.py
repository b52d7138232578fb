"""Terms and methods of the user's own, from files or installed packages."""

from __future__ import annotations

import importlib
import importlib.metadata
import warnings
from collections.abc import Iterable
from types import ModuleType

from dfad_fast.errors import UsageError
from dfad_fast.importing import imported
from dfad_fast.methods import METHODS, Method
from dfad_fast.terms import TERMS, Term

GROUP = "dfad_fast.plugins"
_OWN_TERMS, _OWN_METHODS = dict(TERMS), dict(METHODS)


def load_plugins(sources: Iterable[str] = ()) -> None:
    """Makes known what modules hold: those that installed packages name as entry points of the group
    ``dfad_fast.plugins``, and those of ``sources`` (``pkg.module`` or ``file.py``).

    A plugin is code and is run. Its Term classes and Method objects are known by their names from then on, in
    expressions and on the command line; a later plugin may replace an earlier one's. Raises UsageError for a source
    that cannot be imported, holds neither, or takes a name of this library's own; for an installed package's that is
    a warning, for it may not be meant.
    """
    for entry in importlib.metadata.entry_points(group=GROUP):
        try:
            # Not as a source is imported: a file in the current folder must not take an installed module's place.
            _register(entry.value, importlib.import_module(entry.module))
        except Exception as error:
            warnings.warn(f"plugin {entry.value} is left out: {type(error).__name__}: {error}", stacklevel=2)
    for source in sources:
        with imported(source) as module:
            _register(source, module)


def _register(source: str, module: ModuleType) -> None:
    terms, methods = _terms(module), _methods(module)
    if not terms and not methods:
        raise UsageError(f"plugin {source} holds no Term class and no Method")
    for term in terms:
        _refuse_known(source, "term", term.name, _OWN_TERMS)
    for method in methods:
        _refuse_known(source, "method", method.name, _OWN_METHODS)
    TERMS.update({term.name: term for term in terms})
    METHODS.update({method.name: method for method in methods})


def _refuse_known(source: str, kind: str, name: str, known: Iterable[str]) -> None:
    if name in known:
        raise UsageError(f"plugin {source}: {name!r} is a {kind} of dfad_fast already: choose another name")


def _terms(module: ModuleType) -> list[type[Term]]:
    """Those that are there and not this library's."""
    return [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, Term)
        and value not in _OWN_TERMS.values()
        and isinstance(getattr(value, "name", None), str)
    ]


def _methods(module: ModuleType) -> list[Method]:
    ours = list(_OWN_METHODS.values())
    values = (value for value in vars(module).values() if isinstance(value, Method))
    return [method for method in values if not any(method is own for own in ours)]
