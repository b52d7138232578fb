"""The differences between the settings of a resumed run and those that it was started with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import yaml

from dfad_fast.engine.recipe import Recipe
from dfad_fast.engine.settings import recorded_by_value
from dfad_fast.errors import UsageError
from dfad_fast.runs.folder import RunFolder

_BESIDE_SETTINGS = (
    "method",
    "terms",
    "source",
    "image_shape",
    "normalization",
    "ensemble",
    "recipe",
    "student_init",
    "levers",
    "taps",
    "black_box",
    "versions",
)


def changes(folder: RunFolder, config: Mapping[str, Any], accept: bool) -> dict[str, Any]:
    """The settings in ``config`` that differ from those of the run so far.

    Raises UsageError if there are any, unless ``accept`` is set.
    """
    config_before = folder.read_config()
    # For a run older than a setting, its current default applies.
    before = {**recorded_by_value(), "ensemble": None}
    for noted in (config_before, *config_before.get("changes", [])):
        before |= with_replay_beside(noted)
    now = yaml.safe_load(yaml.safe_dump(dict(config)))
    if before.get("processes", 1) != now["processes"]:
        # CUDA graphs exist only for single processes.
        for levers in (before.get("levers", {}), now["levers"]):
            levers.pop("graph", None)
    told, changed = [], {}
    for name in (*recorded_by_value(), *_BESIDE_SETTINGS):
        old, new = _differing(name, before.get(name, now.get(name)), now.get(name))
        if old != new:
            told.append(f"{name}: {old} then, {new} now")
            changed[name] = now.get(name)
    if told and not accept:
        raise UsageError(
            f"the run in {folder.path} was started with other settings ({'; '.join(told)}): resume with those, "
            "or with accept_changes=True"
        )
    return changed


def with_replay_beside(config: Mapping[str, Any]) -> dict[str, Any]:
    """A run's config.yaml with three settings moved out of the separate entry that older versions wrote."""
    beside = {name: value for name, value in config.items() if name != "cures"}
    cures = config.get("cures")
    return {**(cures if isinstance(cures, dict) else {}), **beside}


def processes_so_far(before: Mapping[str, Any]) -> list[int]:
    """The numbers of processes that the run with this config.yaml has had, in order."""
    later = [change["processes"] for change in before.get("changes", []) if "processes" in change]
    return [before.get("processes", 1), *later]


def _differing(name: str, before: Any, now: Any) -> tuple[Any, Any]:
    """Both values, reduced to the differing entries of dictionaries and to the names of taps.

    The shapes of taps follow from the networks. Ignores the version of Python.
    """
    if name == "taps":
        old, new = ([f"{row['teacher']} <- {row['student']}" for row in taps] for taps in (before, now))
        return old, new
    if not isinstance(before, dict) or not isinstance(now, dict):
        return before, now
    if name == "recipe":  # as for settings, the default applies to what older recipes did not have
        before = {key: value for key, value in asdict(Recipe()).items() if key in now} | before
    if name == "levers":  # levers that older runs did not have change only rounding, and are adopted
        taken_up = {lever: now[lever] for lever in ("fused_norms", "direct_convolutions") if lever in now}
        then = {"teacher_precision": "same"} if "teacher_precision" in now else {}
        before = then | taken_up | before
    keys = [key for key in {**before, **now} if before.get(key) != now.get(key) and key != "python"]
    return {key: before.get(key) for key in keys}, {key: now.get(key) for key in keys}
