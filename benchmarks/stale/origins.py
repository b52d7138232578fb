"""The origin of each committed result (``benchmarks/results/origins.yaml``), and the changes since then by git."""

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
    """A row of the table or a file has no origin; the message says what is missing."""


@dataclass(frozen=True)
class Origin:
    """A row of the table: the revision, machine and code that produced these files."""

    files: str  # a pattern of paths in the folder of results; the first that matches a file counts
    revision: str
    machine: str
    code: tuple[str, ...]  # files and folders of the repository

    def __post_init__(self) -> None:
        for name in ("revision", "machine", "code"):
            if not getattr(self, name):
                raise NoOrigin(f"{TABLE}, {self.files}: {name} is missing")


def read(results: Path = RESULTS) -> list[Origin]:
    """Reads the table. Raises NoOrigin if a row lacks a revision, a machine or code."""
    rows = yaml.safe_load((results / TABLE).read_text())
    return [
        Origin(files, str(row.get("revision") or ""), row.get("machine") or "", tuple(row.get("code") or ()))
        for files, row in rows.items()
    ]


def origin_of(file: str, origins: Sequence[Origin]) -> Origin:
    """The row for a file. Raises NoOrigin if no row matches it."""
    for origin in origins:
        if fnmatch(file, origin.files):
            return origin
    raise NoOrigin(f"{file}: no row of {TABLE} matches: add one with revision, machine and code")


def changes_since(origin: Origin, root: Path = ROOT) -> int | None:
    """The number of commits that changed its code since; None if git is missing or does not know the revision, as in a
    shallow clone."""
    command = ["git", "rev-list", "--count", f"{origin.revision}..HEAD", "--", *origin.code]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return int(done.stdout)


def lines(origins: Sequence[Origin], root: Path = ROOT) -> list[str]:
    """A line for each row whose code has changed since, or for which this is unknown."""
    found = []
    for origin in origins:
        changes = changes_since(origin, root)
        if changes is None:
            found.append(f"{origin.files}: revision {origin.revision} is not in this repository's history")
        elif changes:
            commits = "1 commit" if changes == 1 else f"{changes} commits"
            found.append(
                f"{origin.files}: revision {origin.revision}, {commits} since to {', '.join(origin.code)}"
            )
    return found
