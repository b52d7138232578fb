"""Sizes beyond which code is split. Which layer imports which is import-linter's part, see pyproject.toml."""

import ast
from pathlib import Path

import dfad_fast

PACKAGE = Path(dfad_fast.__file__).parent
FILES = list(PACKAGE.rglob("*.py"))


def classes():
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                yield f"{path.relative_to(PACKAGE)}: {node.name}", node


def test_no_class_is_longer_than_250_lines():
    long = {name: node.end_lineno - node.lineno + 1 for name, node in classes()}
    assert {name: lines for name, lines in long.items() if lines > 250} == {}


def test_no_constructor_has_more_than_12_parameters():
    found = {}
    for name, node in classes():
        for method in node.body:
            if isinstance(method, ast.FunctionDef) and method.name == "__init__":
                given = method.args
                found[name] = len(given.posonlyargs + given.args + given.kwonlyargs) - 1
    assert {name: count for name, count in found.items() if count > 12} == {}


def test_the_facade_is_short():
    files = list((PACKAGE / "training").glob("*.py"))
    assert sum(len(path.read_text().splitlines()) for path in files) < 800
