"""Runs a job with visible progress, to its end or until it is stopped."""

from __future__ import annotations

import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from dfad_fast.errors import DFADFastError
from dfad_fast.terminal import Stream, quoted

if TYPE_CHECKING:
    from dfad_fast.jobs.distill import Job
    from dfad_fast.reporting.console import Console
    from dfad_fast.reporting.progress import BarProgress, LineProgress
    from dfad_fast.training.trainer import DFADTrainer


def run_job(job: Job, console: Console) -> None:
    """Runs the job and prints its summary. Raises Interrupted if it was stopped before its end."""
    from dfad_fast.distributed import processes
    from dfad_fast.reporting.progress import show_progress
    from dfad_fast.reporting.summary_table import print_summary
    from dfad_fast.runs.summary import Summary
    from dfad_fast.training.trainer import Stopped

    trainer, summary = job.trainer, None
    with (
        suppress(Stopped),
        show_progress(console, job.iterations, trainer.images_per_iteration) as progress,
    ):
        summary = job.run(_StopsWithoutReader(progress, trainer))
    if summary is None or (trainer.iteration < job.iterations and not trainer.distiller.ended):
        raise Interrupted(
            f"interrupted at iteration {trainer.iteration} of {job.iterations}; everything so far is saved in "
            f"{job.out}: resume with  {processes.command()} resume {quoted(job.out)}"
        )
    print_summary(console, Summary.from_data(summary), job.out)


class _StopsWithoutReader:
    """Passes on ``progress`` and stops the run, like SIGTERM does, when the reader of its output has gone."""

    def __init__(self, progress: BarProgress | LineProgress, trainer: DFADTrainer) -> None:
        self._progress = progress
        self._trainer = trainer

    def advance(self, iteration: int) -> None:
        self._progress.advance(iteration, self._trainer.distiller.source.waiting)
        if isinstance(sys.stdout, Stream) and sys.stdout.reader_left:
            self._trainer.stop()

    def log(self, record: dict[str, Any]) -> None:
        self._progress.log(record)

    def tell(self, text: str) -> None:
        self._progress.tell(text)


class Interrupted(DFADFastError):
    """Ctrl-C, SIGTERM, SIGHUP or a closed pipe, after everything was saved."""

    exit_code = 128 + signal.SIGINT
