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
    """The mapping in a YAML file.

    Executes nothing, and refuses aliases, since a few lines of them can expand to more than fits into memory.

    Raises OSError if there is no file, and ValueError if it holds no mapping.
    """
    held = path.read_bytes()
    try:
        value = yaml.load(held.decode(), _WithoutAliases)
    except yaml.MarkedYAMLError as error:
        line = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ValueError(f"no valid YAML{line}: {error.problem}") from error
    except Exception as error:  # PyYAML raises many types for unusual values
        raise ValueError(f"no valid YAML ({type(error).__name__})") from error
    if not isinstance(value, dict):
        raise ValueError(f"expected a mapping, got {type(value).__name__}")
    return value


class _WithoutAliases(yaml.SafeLoader):
    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise ValueError("an alias")
        return super().compose_node(parent, index)


def recorded_config(folder: Path) -> dict[str, Any]:
    """The run's whole config.yaml. Raises UsageError if it is missing, unreadable or not from a run."""
    try:
        config = read_settings(folder / CONFIG)
    except (OSError, ValueError) as error:
        raise UsageError(f"{folder} holds no readable {CONFIG}: start over with dfad-fast distill") from error
    wrong = _first_of_another_kind(config)
    if wrong:
        came = reprlib.repr(config[wrong])
        raise ConfigError(f"{folder / CONFIG}: {wrong} is {came}, which no run writes: correct it")
    return config


def _first_of_another_kind(config: Mapping[str, Any]) -> str | None:
    """The first entry with a type that no run writes.

    dfad_fast.jobs.config checks the entries of ``dfad-fast distill``.
    """
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
