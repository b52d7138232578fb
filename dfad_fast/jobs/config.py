"""The settings of ``dfad-fast distill`` in a run's config.yaml."""

from __future__ import annotations

import difflib
import os
import reprlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

from dfad_fast.data import dataset_names
from dfad_fast.distributed import processes
from dfad_fast.engine.best import BEST_BY
from dfad_fast.engine.recipe import RECIPES
from dfad_fast.engine.starting import STUDENT_INITS
from dfad_fast.errors import ConfigError, UsageError, in_one_line, unknown_name
from dfad_fast.jobs.paths import found_from, made_absolute
from dfad_fast.jobs.settings import DistillSettings, as_plain, distill_settings
from dfad_fast.methods import METHODS
from dfad_fast.methods.plugins import load_plugins
from dfad_fast.models.ensemble import MEANS
from dfad_fast.models.generators.registry import GENERATORS
from dfad_fast.models.reading.check import as_image_shape
from dfad_fast.networks.levers import SPEEDS
from dfad_fast.reporting.loggers import LOGGERS
from dfad_fast.runs.config_file import read_settings, recorded_config
from dfad_fast.runs.layout import CONFIG
from dfad_fast.settings import refuse_beyond


def read_config(path: str | Path) -> dict[str, Any]:
    """The settings of ``dfad-fast distill`` in a run's config.yaml, with paths adjusted if the run was moved.

    Raises UsageError if it has no such settings.
    """
    path = Path(os.path.expanduser(path))
    path = path / CONFIG if os.path.isdir(path) else path
    try:
        content = read_settings(path)
        _refuse_python_run(content, path)
        settings = _with_measured(dict(content["distill"]), content.get("levers"))
        unknown = sorted(set(settings) - set(distill_settings()))
    except OSError as error:
        raise UsageError(
            f"cannot read {path}: {error.strerror}: give a run's folder or its {CONFIG}"
        ) from error
    except UsageError:
        raise
    except (TypeError, KeyError, ValueError) as error:
        why = f" ({in_one_line(error)})" if isinstance(error, ValueError) else ""
        raise UsageError(
            f"{path} is not a {CONFIG} of dfad-fast distill{why}: give a run's folder or its {CONFIG}"
        ) from error
    if unknown:
        near = difflib.get_close_matches(str(unknown[0]), distill_settings(), n=1)
        raise ConfigError(
            f"{path} has settings that dfad-fast distill does not know: "
            + ", ".join(f"{name}: {reprlib.repr(settings[name])}" for name in unknown)
            + (f"; did you mean {near[0]!r}?" if near else "")
        )
    settings = with_tuples(settings)
    _refuse_other_types(settings, path)
    _refuse_other_values(settings, path)
    return with_tuples(found_from(settings, path.parent))


def _refuse_python_run(content: dict[str, Any], path: Path) -> None:
    """DFADTrainer records a run's terms, and the command line its own settings besides."""
    if "terms" in content and "distill" not in content:
        raise UsageError(
            f"the run of {path} was made in Python, which did not record how to build its networks: resume it there, "
            "with DFADTrainer(..., resume=True); report and compare take it here"
        )


def _with_measured(settings: dict[str, Any], levers: Any) -> dict[str, Any]:
    """``settings`` with the precision that was measured when the run started, so that a repetition uses it too."""
    found = levers.get("teacher_precision") if isinstance(levers, dict) else None
    given = settings.get("lever")
    if found is None or not isinstance(given, list):
        return settings
    measured = "teacher_precision=measured"
    return {
        **settings,
        "lever": [f"teacher_precision={found}" if lever == measured else lever for lever in given],
    }


def with_tuples(settings: dict[str, Any]) -> dict[str, Any]:
    """Lists become tuples. For a setting that may be given several times, a single value becomes a tuple too."""

    def as_tuple(key: str, value: Any) -> Any:
        if isinstance(value, str) and distill_settings()[key].multiple:
            return (value,)
        return tuple(value) if isinstance(value, list) else value

    return {key: as_tuple(key, value) for key, value in settings.items()}


def _refuse_other_types(settings: dict[str, Any], path: Path) -> None:
    for name, value in settings.items():
        if not distill_settings()[name].accepts(value):
            expected = distill_settings()[name].expected
            raise ConfigError(f"{path}: {name} is {reprlib.repr(value)}, expected {expected}: correct it")


def _refuse_other_values(settings: dict[str, Any], path: Path) -> None:
    """Refuses values that can be checked without anything else, so that the error can name the file."""
    try:
        refuse_beyond(settings, distill_settings())
        if settings.get("image_shape") is not None:
            as_image_shape(settings["image_shape"])
        for name, known in _known_names(settings).items():
            for value in settings[name] if isinstance(settings[name], tuple) else [settings[name]]:
                if value not in known:
                    kind = "logger" if name == "log" else name
                    raise UsageError(f"{name}: {unknown_name(kind, value, known)}")
    except UsageError as error:
        raise ConfigError(f"{path}: {error}") from error


def _known_names(settings: dict[str, Any]) -> dict[str, Collection[str]]:
    """The known names for some of ``settings``.

    A plugin may add methods. The dataset to evaluate on is not checked, since other images may be used instead.
    """
    if not settings.get("plugin") and settings.get("method", "auto") not in ("auto", *METHODS):
        load_plugins()  # of installed packages
    known: dict[str, Collection[str]] = {
        "recipe": ("auto", *RECIPES),
        "generator": GENERATORS,
        "speed": SPEEDS,
        "best_by": BEST_BY,
        "student_init": STUDENT_INITS,
        "ensemble_mean": MEANS,
        "dataset": dataset_names(),
        "log": LOGGERS,
        **({} if settings.get("plugin") else {"method": ("auto", *METHODS)}),
    }
    return {name: names for name, names in known.items() if settings.get(name) is not None}


def to_record(settings: DistillSettings, out: Path, iterations: int | None) -> dict[str, Any]:
    """The settings as recorded in config.yaml: the run's own folder and length, absolute paths, plain lists."""
    absolute = made_absolute({**as_plain(settings), "out": str(out), "iterations": iterations})
    return {key: list(value) if isinstance(value, tuple) else value for key, value in absolute.items()}


def recorded_threads(folder: Path) -> int | None:
    """The CPU threads of the run in ``folder``; None if not recorded, or if the number of processes was different."""
    config = recorded_config(folder)
    threads = config.get("threads")
    known = isinstance(threads, int) and threads > 0 and config.get("processes", 1) == processes.count()
    return threads if known else None
