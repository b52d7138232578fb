"""A run's pictures and report page, written during the run and at its end."""

from __future__ import annotations

import warnings

from dfad_fast.attempts import Attempts
from dfad_fast.errors import DFADFastWarning
from dfad_fast.reporting import pictures, sheets
from dfad_fast.reporting.loggers import Loggers
from dfad_fast.reporting.report_page.page import write_page, write_page_if_possible
from dfad_fast.runs import layout
from dfad_fast.runs.events import Callback, Ended, Failed, Sampled
from dfad_fast.runs.folder import RunFolder


class Drawings(Callback):
    """Draws into ``folder``, and passes the sheets and the summary to ``loggers``.

    If something cannot be written, it warns: a picture never ends a run.
    """

    def __init__(self, folder: RunFolder, loggers: Loggers) -> None:
        self._folder = folder
        self._loggers = loggers

    def sampled(self, event: Sampled) -> None:
        """Writes the sheet of this iteration."""
        attempts = Attempts()
        attempts.attempt(f"{layout.SHEETS}/", lambda: self._keep_sheet(event))
        if attempts.failures:
            warnings.warn(
                f"not written in {self._folder.path}: {attempts}; training continues without it",
                DFADFastWarning,
                stacklevel=2,
            )

    def ended(self, event: Ended) -> None:
        """Writes samples.png, the last sheet, curves.png and the report page."""
        folder, samples, attempts = self._folder, event.samples, Attempts()
        if samples is not None:
            attempts.attempt(
                layout.SAMPLES,
                lambda: folder.write_picture(
                    layout.SAMPLES, lambda path: pictures.draw_samples(path, *samples)
                ),
            )
            last = Sampled(event.iteration, event.generated_images, samples)
            attempts.attempt(f"{layout.SHEETS}/", lambda: self._keep_sheet(last))
        attempts.attempt(
            layout.CURVES,
            lambda: folder.write_picture(
                layout.CURVES, lambda path: pictures.draw_curves(path, event.history, event.summary)
            ),
        )
        self._loggers.summary(event.summary.as_data())
        attempts.attempt(layout.REPORT, lambda: write_page(folder.path))
        if attempts.failures:
            warnings.warn(f"not written in {folder.path}: {attempts}", DFADFastWarning, stacklevel=2)

    def failed(self, event: Failed) -> None:
        """Writes the page of a run that has failed."""
        write_page_if_possible(self._folder.path)

    def _keep_sheet(self, event: Sampled) -> None:
        sheet = sheets.lay_out(*event.samples[:3], event.iteration, event.generated_images)
        self._folder.write_sheet(sheet)
        self._loggers.images(event.iteration, sheet.grid())
