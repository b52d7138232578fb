"""Where a run's records go beside metrics.jsonl, which is always written: ``--log``, one file for each kind."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dfad_fast.errors import DFADFastWarning, unknown_name
from dfad_fast.importing import import_package
from dfad_fast.training.loggers.csv_table import CSVTable
from dfad_fast.training.loggers.logger import Logger, Start
from dfad_fast.training.loggers.mlflow_run import MLflow
from dfad_fast.training.loggers.tensorboard_events import TensorBoard
from dfad_fast.training.loggers.wandb_run import WeightsAndBiases
from dfad_fast.training.run_folder import recorded_config

LOGGERS: dict[str, type[Logger]] = {
    "csv": CSVTable,
    "tensorboard": TensorBoard,
    "wandb": WeightsAndBiases,
    "mlflow": MLflow,
}


class Loggers:
    """The loggers of a run, by name; none is open outside of :meth:`opened`, and what is told then goes nowhere.

    One that fails is left out from then on, with one warning: no logger ends a run.

    Raises UsageError for an unknown name and for a logger whose package is missing.
    """

    def __init__(self, names: Sequence[str] = ()) -> None:
        self._kinds: dict[str, type[Logger]] = {}
        for name in names:
            if name not in LOGGERS:
                raise unknown_name("logger", name, LOGGERS)
            kind = LOGGERS[name]
            if kind.package:
                import_package(kind.package, kind.module)
            self._kinds[name] = kind
        self._open: dict[str, Logger] = {}

    def __bool__(self) -> bool:
        return bool(self._kinds)

    @contextmanager
    def opened(
        self, folder: Path | None, iteration: int, history: Sequence[Mapping[str, Any]]
    ) -> Iterator[None]:
        """Opens them for a run that is at ``iteration``, with these records so far; closes them at the end."""
        failed = True
        try:
            if folder:
                for name in self._kinds:
                    self._attempt(name, partial(self._begin, name, folder, iteration, history))
            yield
            failed = False
        finally:
            self._each(lambda logger: logger.close(failed))
            self._open.clear()

    def _begin(self, name: str, folder: Path, iteration: int, history: Sequence[Mapping[str, Any]]) -> None:
        start = Start(folder, iteration, recorded_config(folder), tuple(history))
        self._open[name] = self._kinds[name](start)

    def record(self, record: Mapping[str, Any]) -> None:
        self._each(lambda logger: logger.record(record))

    def images(self, iteration: int, grid: np.ndarray) -> None:
        self._each(lambda logger: logger.images(iteration, grid))

    def summary(self, summary: Mapping[str, Any]) -> None:
        self._each(lambda logger: logger.summary(summary))

    def _each(self, tell: Callable[[Logger], None]) -> None:
        for name, logger in list(self._open.items()):
            self._attempt(name, partial(tell, logger))

    def _attempt(self, name: str, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:
            self._open.pop(name, None)
            reason = " ".join(str(error).split())[:300]
            warnings.warn(
                f"logger {name} failed ({type(error).__name__}: {reason}): the run goes on without it",
                DFADFastWarning,
                stacklevel=2,
            )
