"""Saves a run: its state at any time, and everything at its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dfad_fast.attempts import Attempts
from dfad_fast.engine.distiller import Distiller
from dfad_fast.engine.evaluation import TestSet
from dfad_fast.errors import RunError
from dfad_fast.reporting.samples import Normalization, try_to_label_samples
from dfad_fast.runs import layout
from dfad_fast.runs.events import Callback, Ended
from dfad_fast.runs.folder import RunFolder
from dfad_fast.runs.summarizing import summarize
from dfad_fast.runs.writer import RunWriter, write_best


@dataclass(frozen=True)
class Saver:
    """Writes the state of ``distiller`` and the results in ``history`` through ``writer``."""

    distiller: Distiller
    writer: RunWriter
    history: Sequence[Mapping[str, Any]]
    normalization: Normalization

    def save_state(self) -> None:
        """See :meth:`dfad_fast.DFADTrainer.save_state`."""
        attempts = Attempts()
        self._try_to_save_state(attempts)
        if attempts.failures:
            raise RunError(f"not everything could be saved in {self.writer.out}: {attempts}")

    def _try_to_save_state(self, attempts: Attempts) -> None:
        distiller = self.distiller
        self.writer.try_to_save(
            attempts,
            distiller.trained,
            distiller.best,
            distiller.state.iteration,
            distiller.state_of_all,
        )

    def save(self, test_set: TestSet | None, callbacks: Sequence[Callback]) -> dict[str, Any]:
        """See :meth:`dfad_fast.DFADTrainer.save`. In the first process, ``callbacks`` receive the event ``Ended``."""
        distiller, out, attempts = self.distiller, self.writer.out, Attempts()
        # First, since a stopped run may be killed while the rest is computed, and since the rest draws random numbers.
        self._try_to_save_state(attempts)
        best = distiller.best.iteration

        def tell(text: str) -> None:
            for callback in callbacks:
                callback.told(text)

        summary = summarize(distiller, test_set, self.history, tell)
        if out:
            samples = try_to_label_samples(distiller, self.normalization)
            ended = Ended(
                distiller.state.iteration,
                distiller.state.generated_images,
                summary,
                tuple(self.history),
                samples,
            )

            def write(folder: RunFolder) -> list[tuple[str, str]]:
                own = Attempts()
                if distiller.best.iteration != best:  # changed by the final evaluation of a stopped run
                    own.attempt(layout.BEST, lambda: write_best(folder, distiller.best))
                own.attempt(layout.SUMMARY, lambda: folder.write_summary(summary))
                for callback in callbacks:
                    callback.ended(ended)
                return own.failures

            attempts.failures += self.writer.on_folder(write) or []
        if attempts.failures:
            raise RunError(
                f"not everything could be saved in {out}: {attempts}: make room there"
                + (f", then resume with dfad-fast resume {out}" if self.writer.has_checkpoint else "")
            )
        return summary.as_data()
