"""Destinations for a run's records (``--log``) besides metrics.jsonl, which is always written; one file per kind."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dfad_fast.errors import DFADFastWarning, UsageError, in_one_line, unknown_name, with_kind
from dfad_fast.importing import import_package
from dfad_fast.reporting.loggers.csv_table import CSVTable
from dfad_fast.reporting.loggers.logger import Logger, Start
from dfad_fast.reporting.loggers.mlflow_run import MLflow
from dfad_fast.reporting.loggers.tensorboard_events import TensorBoard
from dfad_fast.reporting.loggers.wandb_run import WeightsAndBiases
from dfad_fast.runs.config_file import recorded_config
from dfad_fast.runs.events import Callback, Recorded, Started

LOGGERS: dict[str, type[Logger]] = {
    "csv": CSVTable,
    "tensorboard": TensorBoard,
    "wandb": WeightsAndBiases,
    "mlflow": MLflow,
}


class Loggers(Callback):
    """The loggers of a run, by name. They are open between ``started`` and ``closed``; other calls do nothing.

    A logger that fails is closed and no longer used, with one warning: a logger never ends a run.

    Raises UsageError for an unknown name or a logger whose package is missing.
    """

    def __init__(self, names: Sequence[str] | str = ()) -> None:
        names = [names] if isinstance(names, str) else names
        self._kinds = {name: _kind_of(name) for name in names}
        for kind in self._kinds.values():
            _import(kind)
        self._open: dict[str, Logger] = {}

    def __bool__(self) -> bool:
        return bool(self._kinds)

    def started(self, event: Started) -> None:
        """Opens the loggers, in the first process only."""
        if event.folder:
            for name in self._kinds:
                self._attempt(name, partial(self._begin, name, event, event.folder))

    def _begin(self, name: str, event: Started, folder: Path) -> None:
        start = Start(folder, event.iteration, recorded_config(folder), tuple(event.history))
        self._open[name] = self._kinds[name](start)
        self._open[name].begin(start)

    def recorded(self, event: Recorded) -> None:
        """Passes the record on."""
        self._each(lambda logger: logger.record(event.record))

    def closed(self, failed: bool) -> None:
        """Closes all loggers."""
        while self._open:
            name, logger = self._open.popitem()
            self._attempt(name, partial(logger.close, failed))

    def images(self, iteration: int, grid: np.ndarray) -> None:
        """Passes the sheet on."""
        self._each(lambda logger: logger.images(iteration, grid))

    def summary(self, summary: Mapping[str, Any]) -> None:
        """Passes the summary on."""
        self._each(lambda logger: logger.summary(summary))

    def _each(self, tell: Callable[[Logger], None]) -> None:
        for name, logger in list(self._open.items()):
            self._attempt(name, partial(tell, logger))

    def _attempt(self, name: str, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:
            failed = self._open.pop(name, None)
            if failed:
                with contextlib.suppress(Exception):
                    failed.close(failed=True)
            reason = with_kind(error, in_one_line(error, 300))
            warnings.warn(
                f"logger {name} failed ({reason}): the run continues without it",
                DFADFastWarning,
                stacklevel=2,
            )


def available(names: Sequence[str]) -> list[str]:
    """The loggers among ``names`` whose packages are installed; warns about the others.

    Raises UsageError for an unknown name.
    """
    found = []
    for name in names:
        kind = _kind_of(name)
        try:
            _import(kind)
        except UsageError as error:
            warnings.warn(f"the run continues without its logger: {error}", DFADFastWarning, stacklevel=2)
        else:
            found.append(name)
    return found


def _kind_of(name: str) -> type[Logger]:
    if name not in LOGGERS:
        raise unknown_name("logger", name, LOGGERS)
    return LOGGERS[name]


def _import(kind: type[Logger]) -> None:
    if kind.package:
        import_package(kind.package, kind.module)
