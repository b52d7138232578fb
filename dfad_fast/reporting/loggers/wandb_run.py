"""A run of Weights & Biases."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from dfad_fast.importing import import_package
from dfad_fast.reporting.loggers.logger import Logger, Start
from dfad_fast.runs.layout import LOGS


class WeightsAndBiases(Logger):
    """Logs offline unless WANDB_MODE in the environment says otherwise; ``wandb sync`` uploads the run later.

    A resumed run becomes a new W&B run in the same group that starts with the records so far, because records after the
    checkpoint cannot be removed from the previous one.
    """

    package = "wandb"

    def __init__(self, start: Start) -> None:
        self._wandb = import_package(self.package)
        (start.folder / LOGS).mkdir(exist_ok=True)
        name = start.folder.resolve().name
        self._run = self._wandb.init(
            project=os.environ.get("WANDB_PROJECT", "dfad_fast"),
            name=name,
            group=name,
            dir=str(start.folder / LOGS),
            config=dict(start.config),
            mode=os.environ.get("WANDB_MODE", "offline"),
            reinit="create_new",  # leaves a run that the caller has open untouched
            settings=self._wandb.Settings(silent=True),
        )

    def begin(self, start: Start) -> None:
        for record in start.history:
            self.record(record)

    def record(self, record: Mapping[str, Any]) -> None:
        self._run.log(dict(record), step=record["iteration"])

    def images(self, iteration: int, grid: np.ndarray) -> None:
        self._run.log({"generated": self._wandb.Image(grid)}, step=iteration)

    def summary(self, summary: Mapping[str, Any]) -> None:
        self._run.summary.update(dict(summary))

    def close(self, failed: bool) -> None:
        self._run.finish(exit_code=int(failed))
