import importlib.metadata

import pytest

from dfad_fast.errors import UsageError
from dfad_fast.methods import METHODS, plugins
from dfad_fast.methods.plugins import GROUP, load_plugins
from dfad_fast.sources import SOURCES
from dfad_fast.terms import TERMS

CODE = """
from dfad_fast.methods import DFAD, Method
from dfad_fast.terms import L1, Term, Weighted

class Own(Term):
    name = "own_term"
    def __call__(self, probe):
        return probe.student.mean()

METHOD = Method("own_method", "", (Weighted(1.0, Own()),), (Weighted(-1.0, L1()),))
"""


def install(monkeypatch, value):
    entry = importlib.metadata.EntryPoint("own", value, GROUP)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [entry] if group == GROUP else [])


@pytest.fixture(autouse=True)
def _registries():
    before = dict(TERMS), dict(METHODS)
    yield
    for registry, kept in zip((TERMS, METHODS), before, strict=True):
        registry.clear()
        registry.update(kept)


def test_what_a_file_holds_is_known_and_what_it_imports_is_left(tmp_path):
    before = set(TERMS), set(METHODS)
    (tmp_path / "own_plugin.py").write_text(CODE)
    load_plugins([str(tmp_path / "own_plugin.py")])
    assert set(TERMS) - before[0] == {"own_term"}
    assert set(METHODS) - before[1] == {"own_method"}
    load_plugins([str(tmp_path / "own_plugin.py")])  # again, as a second run in one process does


def test_an_installed_package_names_its_module(tmp_path, monkeypatch):
    (tmp_path / "own_package.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "reexporting.py").write_text("from own_package import METHOD, Own")
    install(monkeypatch, "reexporting:anything")
    load_plugins()
    assert "own_term" in TERMS
    assert "own_method" in METHODS


def test_a_file_in_the_current_folder_does_not_take_a_packages_place(tmp_path, monkeypatch):
    installed, here = tmp_path / "installed", tmp_path / "here"
    for folder, code in ((installed, CODE), (here, "raise SystemExit('not this one')")):
        folder.mkdir()
        (folder / "placed_package.py").write_text(code)
    monkeypatch.syspath_prepend(installed)
    monkeypatch.chdir(here)
    install(monkeypatch, "placed_package")
    load_plugins()
    assert "own_term" in TERMS


def test_a_broken_package_is_left_out_with_a_warning(monkeypatch):
    install(monkeypatch, "no_such_package_anywhere")
    with pytest.warns(UserWarning, match="plugin no_such_package_anywhere is skipped: ModuleNotFoundError"):
        load_plugins()


def test_a_method_of_ours_is_not_replaced(tmp_path):
    (tmp_path / "own_plugin.py").write_text(CODE.replace("own_method", "dfad"))
    with pytest.raises(UsageError, match="'dfad' is already a method of dfad_fast"):
        load_plugins([str(tmp_path / "own_plugin.py")])
    assert METHODS["dfad"].source.startswith("Fang")


def test_a_missing_file_is_named():
    with pytest.raises(UsageError, match=r"no file gone\.py"):
        load_plugins(["gone.py"])


def test_a_file_with_the_name_of_a_module_in_use_is_refused(tmp_path):
    (tmp_path / "json.py").write_text(CODE)
    with pytest.raises(UsageError, match="has the name of a module that is in use"):
        load_plugins([str(tmp_path / "json.py")])


def test_a_source_of_ones_own_is_known_by_its_name(tmp_path, monkeypatch):
    monkeypatch.setattr(plugins, "SOURCES", dict(SOURCES))
    file = tmp_path / "own_source.py"
    text = """
from dataclasses import dataclass
from typing import ClassVar
from dfad_fast import SourceSpec

@dataclass(frozen=True)
class Own(SourceSpec):
    name: ClassVar[str] = {name!r}
"""
    file.write_text(text.format(name="own"))
    load_plugins([str(file)])
    assert plugins.SOURCES["own"].__name__ == "Own"
    other = tmp_path / "other_source.py"
    other.write_text(text.format(name="fresh"))
    with pytest.raises(UsageError, match="'fresh' is already a source of dfad_fast"):
        load_plugins([str(other)])
