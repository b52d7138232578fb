"""A term or method that has its file and no line in ``__init__`` would be known to nobody."""

import importlib
import pkgutil

from dfad_fast import methods, terms
from dfad_fast.methods import METHODS, Method
from dfad_fast.terms import TERMS, Term


def values_in_files_of(package):
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        yield from vars(importlib.import_module(module.name)).values()


def test_every_term_is_known_by_its_name():
    classes = [x for x in values_in_files_of(terms) if isinstance(x, type) and issubclass(x, Term)]
    assert {*classes} - {Term} == {*TERMS.values()}
    assert all(term.name == name for name, term in TERMS.items())


def test_every_method_is_known_by_its_name():
    found = [x for x in values_in_files_of(methods) if isinstance(x, Method)]
    assert {method.name for method in found} == {*METHODS}
    assert all(method.name == name for name, method in METHODS.items())
