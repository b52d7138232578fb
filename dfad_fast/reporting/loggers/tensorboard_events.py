"""TensorBoard's event files, written by torch.utils.tensorboard."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import yaml

from dfad_fast.importing import import_package
from dfad_fast.reporting.loggers.logger import Logger, Start
from dfad_fast.runs.layout import LOGS


class TensorBoard(Logger):
    """Logs every value of a record as a scalar of its name. A resumed run purges what came after its checkpoint."""

    package = "tensorboard"
    module = "torch.utils.tensorboard"

    def __init__(self, start: Start) -> None:
        self._iteration = start.iteration
        self._writer = import_package(self.package, self.module).SummaryWriter(
            str(start.folder / LOGS / "tensorboard"),
            # TensorBoard hides earlier events of this step and later steps.
            purge_step=start.iteration + 1,
        )

    def begin(self, start: Start) -> None:
        self._text("config", yaml.safe_dump(dict(start.config), sort_keys=False))

    def record(self, record: Mapping[str, Any]) -> None:
        self._iteration = record["iteration"]
        for name, value in record.items():
            if name != "iteration":
                self._writer.add_scalar(name, value, self._iteration)
        self._writer.flush()

    def images(self, iteration: int, grid: np.ndarray) -> None:
        self._writer.add_image("generated", grid, iteration, dataformats="HWC")

    def summary(self, summary: Mapping[str, Any]) -> None:
        self._text("summary", json.dumps(summary, indent=2))

    def close(self, failed: bool) -> None:
        self._writer.close()

    def _text(self, name: str, text: str) -> None:
        """Shows the text literally: in TensorBoard four leading spaces mark code."""
        self._writer.add_text(name, "".join(f"    {line}\n" for line in text.splitlines()), self._iteration)
