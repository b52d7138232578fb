"""A study: the runs to compare, read from a YAML file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.measuring.names import as_file_name
from dfad_fast.errors import UsageError, unknown_name
from dfad_fast.jobs.config import with_tuples
from dfad_fast.jobs.settings import LENGTHS, DistillSettings, distill_settings
from dfad_fast.settings import SEED, refuse_beyond

_PARTS = ("seeds", "settings", "data", "arms", "baseline")
Records = Sequence[Mapping[str, Any]]
"""Lines of runs.jsonl."""

REAL = "{real}"
"""Placeholder in a setting for the file of the data's training images without labels, which give an upper bound."""


@dataclass(frozen=True)
class Run:
    """One run of a study, with settings of ``dfad-fast distill``."""

    data: str
    arm: str
    seed: int
    settings: dict[str, Any]

    @property
    def folder(self) -> str:
        """A unique name, which changes with the settings."""
        name = as_file_name(f"{self.data}-{self.arm}")
        text = json.dumps([self.data, self.arm, self.settings], sort_keys=True)
        return f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}-seed{self.seed}"

    def is_that_of(self, record: Mapping[str, Any]) -> bool:
        """Whether ``record``, a line of runs.jsonl, belongs to this run."""
        own = {"data": self.data, "arm": self.arm, "seed": self.seed, "settings": self.settings}
        return all(record.get(name) == value for name, value in own.items())

    def config(self, out: Path, real: str) -> DistillSettings:
        """Settings for :func:`dfad_fast.jobs.distill.prepare`."""
        settings: dict[str, Any] = {
            name: value.replace(REAL, real) if isinstance(value, str) else value
            for name, value in self.settings.items()
        }
        return DistillSettings(**with_tuples(settings), seed=self.seed, out=str(out / self.folder))

    @property
    def wants_real_images(self) -> bool:
        return any(isinstance(value, str) and REAL in value for value in self.settings.values())


@dataclass(frozen=True)
class Study:
    """Every arm on every data set with every seed. The other arms are compared with the arm ``baseline`` seed by
    seed."""

    runs: tuple[Run, ...]
    data: tuple[str, ...]
    arms: tuple[str, ...]
    baseline: str | None

    def found(self, records: Records, data: str, arm: str) -> dict[int, Mapping[str, Any]]:
        """The ``records`` of this arm on this data set, by seed."""
        runs = [run for run in self.runs if (run.data, run.arm) == (data, arm)]
        return {run.seed: record for run, record in done(records, runs)}


def read_study(path: Path) -> Study:
    """Raises UsageError if the file is not a valid study; the message says what is wrong and where."""
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"cannot read {path}: {str(error).splitlines()[0]}") from error
    try:
        return _parse(content)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error


def _parse(content: Any) -> Study:
    _refuse_other_names("part", _mapping("a study", content), _PARTS)
    data, arms = (
        {name: _settings(f"{part}: {name}", own) for name, own in _mapping(part, content.get(part)).items()}
        for part in ("data", "arms")
    )
    seeds = content.get("seeds")
    if not isinstance(seeds, list) or not seeds or not all(type(seed) is int for seed in seeds):
        raise UsageError(f"seeds is {seeds!r}, expected a list of whole numbers")
    if len(set(seeds)) < len(seeds):
        raise UsageError(f"seeds contains duplicates: {seeds}")
    baseline = content.get("baseline")
    for seed in seeds:
        SEED.refuse("seeds", seed)
    if baseline is not None and (not isinstance(baseline, str) or baseline not in arms):
        raise unknown_name("baseline", str(baseline), list(arms))
    common = _settings("settings", content.get("settings"))
    runs = tuple(
        Run(place, arm, seed, _merged(common, data[place], arms[arm]))
        for place in data
        for arm in arms
        for seed in seeds
    )
    return Study(runs, tuple(data), tuple(arms), baseline)


def _merged(*parts: Mapping[str, Any]) -> dict[str, Any]:
    """Later settings override earlier ones. A length also overrides an earlier length of another kind."""
    merged: dict[str, Any] = {}
    for part in parts:
        if any(name in part for name in LENGTHS):
            merged = {name: value for name, value in merged.items() if name not in LENGTHS}
        merged |= part
    return merged


def _mapping(what: str, content: Any) -> dict[str, Any]:
    if not isinstance(content, dict) or not content or not all(isinstance(key, str) for key in content):
        raise UsageError(f"{what}: expected a mapping of names to values, got {content!r:.80}")
    return content


def _settings(where: str, content: Any) -> dict[str, Any]:
    settings = _mapping(where, content) if content else {}
    known = distill_settings()
    _refuse_other_names(
        f"{where}: setting", settings, [name for name in known if name not in ("out", "seed")]
    )
    lengths = [name for name in LENGTHS if name in settings]
    if len(lengths) > 1:
        raise UsageError(f"{where}: {' and '.join(lengths)} all set the length of a run: give only one")
    for name, value in with_tuples(settings).items():
        if not known[name].accepts(value):
            given = settings[name]
            raise UsageError(f"{where}: {name} is {given!r:.80}, expected {known[name].expected}")
    try:
        refuse_beyond(settings, known)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error
    return settings


def _refuse_other_names(what: str, names: Collection[str], known: Collection[str]) -> None:
    for name in names:
        if name not in known:
            raise unknown_name(what, name, known)


def done(records: Records, runs: Collection[Run]) -> Iterator[tuple[Run, Mapping[str, Any]]]:
    """The finished ``runs``, each with its last record."""
    for run in runs:
        found = [record for record in records if run.is_that_of(record)]
        if found:
            yield run, found[-1]
