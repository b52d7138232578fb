"""The result files of a run: their common fields, writing and reading."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.measuring import machine
from benchmarks.measuring.settings import Settings

SCHEMA = 1
KINDS = ("ops", "step", "train", "instructions")
OURS = "dfad_fast"  # among the contenders
Results = dict[str, Any]


def begin(kind: str, settings: Settings) -> Results:
    """The results of a run before the first measurement; ``complete`` is False until the end."""
    return {
        "kind": kind,
        "schema": SCHEMA,
        "complete": False,
        "machine": machine.describe(settings.device),
        "settings": dataclasses.asdict(settings),
        "rows": [],
        "skipped": [],
    }


def origin(results: Results) -> str:
    """The machine and revision on which results were measured."""
    found, threads = results["machine"], results["settings"]["threads"]
    revision = (found["git_revision"] or "unknown")[:10] + (", changed" if found["git_changes"] else "")
    return (
        f"{found['cpu']}, {threads} thread{'s' if threads > 1 else ''}, {found['device']}; torch "
        f"{found['versions']['torch']}; {found['backend']['name']} ({found['backend']['reason']}); revision "
        f"{revision}; load {found['load_average'][0]:.2f} at the start."
    )


def write(results: Results, columns: Sequence[str], text: str, folder: Path) -> list[Path]:
    """Writes KIND.json, KIND.csv with ``columns`` of the rows, and KIND.md with ``text``; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{results['kind']}.{ending}" for ending in ("json", "csv", "md")]
    files[0].write_text(_lines(results))
    with files[1].open("w", newline="") as stream:
        writer = csv.DictWriter(stream, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(results["rows"])
    files[2].write_text(text)
    return files


def _lines(results: Results) -> str:
    """JSON with one row per line, which is compact and has readable diffs."""
    parts = []
    for name, value in results.items():
        rows = isinstance(value, list) and value
        text = "[\n" + ",\n".join(map(json.dumps, value)) + "\n]" if rows else json.dumps(value)
        parts.append(f"{json.dumps(name)}: {text}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


class Unreadable(Exception):
    """A file does not hold benchmark results; the message says what is wrong with it."""


def load(path: Path) -> Results:
    """Results from a file. Raises Unreadable if it holds none."""
    try:
        results = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise Unreadable(f"{path}: {error}") from error
    ours = isinstance(results, dict) and results.get("kind") in KINDS and results.get("schema") == SCHEMA
    if not ours:
        raise Unreadable(f"{path} holds no results of schema {SCHEMA} of run.py ({', '.join(KINDS)})")
    return results
