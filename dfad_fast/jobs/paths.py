"""Makes the paths in a run's settings absolute, so that it can be resumed from any folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dfad_fast.errors import UsageError
from dfad_fast.jobs.own_test_images import is_path
from dfad_fast.models.loading.weights_file import KEY, split_key
from dfad_fast.sources import as_source


def made_absolute(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of ``dfad-fast distill`` with absolute paths, resolved from the current folder.

    A module that is a file there is named by its file.
    """
    named = dict(settings)
    for name in ("teacher", "student"):
        module, colon, factory = (named.get(name) or "").rpartition(":")
        if colon and Path(f"{module}.py").is_file():
            named[name] = f"{module}.py:{factory}"
    if named.get("plugin"):
        named["plugin"] = [
            f"{source}.py" if Path(f"{source}.py").is_file() else source for source in named["plugin"]
        ]
    return _with_paths(named, lambda path: os.path.abspath(os.path.expanduser(path)))


def found_from(settings: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The settings of the run that is in ``folder`` now, with paths relative to the current folder where possible.

    If the run's folder was moved or copied, paths inside it follow. Paths inside a parent folder follow too, if
    something that the run names was moved along with it.
    """
    named: set[str] = set()

    def note(path: str) -> str:
        named.add(path)
        return path

    _with_paths({**settings, "out": None}, note)
    roots = [
        (before, after)
        for before, after in _moved(settings.get("out"), os.path.abspath(folder))
        if any(os.path.exists(there) for path in named if (there := _rebased(path, before, after)))
    ]

    def change(path: str) -> str:
        if not os.path.isabs(path):
            return path
        path = next((there for before, after in roots if (there := _rebased(path, before, after))), path)
        short = os.path.relpath(path)
        return path if short.startswith(os.pardir) else short

    return _with_paths(settings, change)


def _rebased(path: str, before: str, after: str) -> str | None:
    """``path`` moved from the folder ``before`` to ``after``; None if it is not inside ``before``."""
    inside = os.path.relpath(path, before) if os.path.isabs(path) else os.curdir
    return None if inside.split(os.sep)[0] in (os.curdir, os.pardir) else os.path.join(after, inside)


def _moved(was: Any, now: str) -> list[tuple[str, str]]:
    """Old and new paths of a moved folder and of its parents, as far up as their names are equal."""
    if not isinstance(was, str) or not os.path.isabs(was) or was == now:
        return []
    roots = [(was, now)]
    while os.path.basename(was) == os.path.basename(now) and os.path.dirname(was) != was:
        was, now = os.path.dirname(was), os.path.dirname(now)
        roots.append((was, now))
    return roots


def _with_paths(settings: Mapping[str, Any], change: Callable[[str], str]) -> dict[str, Any]:
    changed = dict(settings)
    for name in ("data_dir", "teachers", "out"):
        if changed.get(name):
            changed[name] = change(changed[name])
    if changed.get("evaluate") and is_path(changed["evaluate"]):
        path = change(changed["evaluate"])
        # A folder may be named like a dataset.
        changed["evaluate"] = path if os.path.dirname(path) else os.path.join(os.curdir, path)
    if changed.get("teacher_weights"):
        changed["teacher_weights"] = [
            change(str(file)) + (f"{KEY}{key}" if key is not None else "")
            for file, key in map(split_key, changed["teacher_weights"])
        ]
    for name in ("teacher", "student"):
        if changed.get(name):
            changed[name] = _with_path(changed[name], change)
    if changed.get("plugin"):
        changed["plugin"] = [
            change(source) if source.endswith(".py") else source for source in changed["plugin"]
        ]
    if changed.get("source"):
        changed["source"] = _with_paths_of_sources(changed["source"], change)
    return changed


def _with_paths_of_sources(text: str, change: Callable[[str], str]) -> str:
    try:
        source = as_source(text)
    except UsageError:  # reported when it is read later, when more sources may be known
        return text
    return str(source.with_paths(change)) if any(part.paths for part in source.walk()) else text


def _with_path(network: str, change: Callable[[str], str]) -> str:
    """Changes the path in ``file.py:factory``, ``hf:FOLDER`` or a file. Other names of networks have no path."""
    source, _, factory = network.rpartition(":")
    if source.endswith(".py"):
        return f"{change(source)}:{factory}"
    if network.startswith("hf:"):
        return f"hf:{change(network.removeprefix('hf:'))}"
    if os.path.isabs(network) or ("." in network and os.path.isfile(network)):
        return change(network)
    return network
