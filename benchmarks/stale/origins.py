"""Where each committed result comes from: ``benchmarks/results/origins.yaml``, and what git says has changed since."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import yaml

from benchmarks.measuring.machine import ROOT

RESULTS = ROOT / "benchmarks/results"
TABLE = "origins.yaml"


class NoOrigin(Exception):
    """A row of the table, or a file, that does not say where it comes from; the text says what is missing."""


@dataclass(frozen=True)
class Origin:
    """A row of the table: of which revision, on what machine, and by which code these files were made."""

    files: str  # a pattern of paths beneath the folder of results; the first that fits a file counts
    revision: str
    machine: str
    code: tuple[str, ...]  # files and folders of the repository

    def __post_init__(self) -> None:
        for name in ("revision", "machine", "code"):
            if not getattr(self, name):
                raise NoOrigin(f"{TABLE}, {self.files}: {name} is missing")


def read(results: Path = RESULTS) -> list[Origin]:
    """The table. Raises NoOrigin for a row without a revision, a machine or code."""
    rows = yaml.safe_load((results / TABLE).read_text())
    return [
        Origin(files, str(row.get("revision") or ""), row.get("machine") or "", tuple(row.get("code") or ()))
        for files, row in rows.items()
    ]


def origin_of(file: str, origins: Sequence[Origin]) -> Origin:
    """Raises NoOrigin for a file that no row tells of."""
    for origin in origins:
        if fnmatch(file, origin.files):
            return origin
    raise NoOrigin(f"{file}: no row of {TABLE} fits it: add one with revision, machine and code")


def changes_since(origin: Origin, root: Path = ROOT) -> int | None:
    """How many commits have changed its code since; None where git is absent or does not know the revision, as in a
    shallow clone."""
    command = ["git", "rev-list", "--count", f"{origin.revision}..HEAD", "--", *origin.code]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return int(done.stdout)


def lines(origins: Sequence[Origin], root: Path = ROOT) -> list[str]:
    """A line for each row whose code has changed since, or of which that cannot be told."""
    found = []
    for origin in origins:
        changes = changes_since(origin, root)
        if changes is None:
            found.append(f"{origin.files}: revision {origin.revision} is not in the history that is here")
        elif changes:
            commits = "1 commit" if changes == 1 else f"{changes} commits"
            found.append(
                f"{origin.files}: revision {origin.revision}, {commits} since to {', '.join(origin.code)}"
            )
    return found
