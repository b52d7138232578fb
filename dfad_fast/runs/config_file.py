"""``config.yaml``: every setting of a run, and how to repeat it."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from dfad_fast.errors import ConfigError, UsageError
from dfad_fast.runs.layout import CONFIG


def read_settings(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. Executes nothing, and reads no aliases: a few lines of them can stand for more than
    memory holds.

    Raises OSError where there is no file, and ValueError for one that holds no mapping.
    """
    held = path.read_bytes()
    try:
        value = yaml.load(held.decode(), _WithoutAliases)
    except Exception as error:  # PyYAML raises many kinds for odd values
        raise ValueError(f"no YAML that can be read ({type(error).__name__})") from error
    if not isinstance(value, dict):
        raise ValueError(f"expected a mapping, got {type(value).__name__}")
    return value


class _WithoutAliases(yaml.SafeLoader):
    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise ValueError("an alias")
        return super().compose_node(parent, index)


def recorded_config(folder: Path) -> dict[str, Any]:
    """All of the run's config.yaml. Raises UsageError where there is none that can be read, or none of a run."""
    try:
        config = read_settings(folder / CONFIG)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{folder} holds no {CONFIG} that can be read: start anew with dfad-fast distill"
        ) from error
    wrong = _first_of_another_kind(config)
    if wrong:
        came = reprlib.repr(config[wrong])
        raise ConfigError(f"{folder / CONFIG}: {wrong} is {came}, which no run has written: correct it")
    return config


def _first_of_another_kind(config: Mapping[str, Any]) -> str | None:
    """The first entry of another kind than was written. Those of ``dfad-fast distill`` are looked at in
    dfad_fast.jobs.config."""
    return next((name for name, fits in _KINDS.items() if name in config and not fits(config[name])), None)


def _is_count(value: Any) -> bool:
    return type(value) is int and value > 0


def _are_taps(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(row, dict) and {"teacher", "student"} <= row.keys() for row in value
    )


def _are_changes(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(change, dict) and _first_of_another_kind(change) is None for change in value
    )


_KINDS: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("processes", "threads", "batch_size"), _is_count),
    **dict.fromkeys(("levers", "cures"), lambda value: isinstance(value, dict)),
    "taps": _are_taps,
    "changes": _are_changes,
}
