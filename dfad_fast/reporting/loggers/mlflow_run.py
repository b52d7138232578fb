"""A run of MLflow."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dfad_fast.errors import UsageError
from dfad_fast.importing import import_package
from dfad_fast.reporting.loggers.logger import Logger, Start
from dfad_fast.runs.layout import LOGS

_EXPERIMENT = "dfad_fast"
_MOST_METRICS = 1000  # MLflow's limit per call


class MLflow(Logger):
    """Logs to a database in the run's folder, or to MLFLOW_TRACKING_URI if it is set in the environment.

    A resumed run becomes a new MLflow run that starts with the records so far, because records after the checkpoint
    cannot be removed from the previous one.
    """

    package = "mlflow"

    def __init__(self, start: Start) -> None:
        self._mlflow = import_package(self.package)
        folder = (start.folder / LOGS / "mlflow").resolve()
        uri, artifacts = os.environ.get("MLFLOW_TRACKING_URI"), None
        if not uri:
            if "?" in str(folder):
                raise UsageError(
                    f"in a database's address a question mark ends the path, and {folder} contains one: rename the "
                    "folder, or set MLFLOW_TRACKING_URI"
                )
            folder.mkdir(parents=True, exist_ok=True)
            # A database, because MLflow refuses a folder of files since 3.13.
            uri, artifacts = f"sqlite:///{folder / 'mlflow.db'}", (folder / "artifacts").as_uri()
        self._client = self._mlflow.MlflowClient(tracking_uri=uri)
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", _EXPERIMENT)
        known = self._client.get_experiment_by_name(name)
        experiment = known.experiment_id if known else self._client.create_experiment(name, artifacts)
        run = self._client.create_run(experiment, run_name=start.folder.resolve().name)
        self._id = run.info.run_id

    def begin(self, start: Start) -> None:
        self._client.log_dict(self._id, dict(start.config), "config.yaml")
        self._log(start.history)

    def record(self, record: Mapping[str, Any]) -> None:
        self._log([record])

    def _log(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Uses as few transactions as MLflow allows.

        One transaction per record would take minutes for a long history.
        """
        now, metric = round(1000 * time.time()), self._mlflow.entities.Metric
        metrics = [
            metric(name, float(value), now, record["iteration"])
            for record in records
            for name, value in record.items()
            if name != "iteration"
        ]
        for first in range(0, len(metrics), _MOST_METRICS):
            self._client.log_batch(self._id, metrics=metrics[first : first + _MOST_METRICS])

    def images(self, iteration: int, grid: np.ndarray) -> None:
        self._client.log_image(self._id, grid, key="generated", step=iteration)

    def summary(self, summary: Mapping[str, Any]) -> None:
        self._client.log_dict(self._id, dict(summary), "summary.json")

    def close(self, failed: bool) -> None:
        self._client.set_terminated(self._id, status="FAILED" if failed else "FINISHED")
