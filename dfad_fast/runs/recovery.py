"""A run's last good state, and what is kept when something goes wrong."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from dfad_fast.distributed import processes
from dfad_fast.engine.distiller import Distiller
from dfad_fast.engine.losses import NotFinite
from dfad_fast.errors import DFADFastError, RunError, first_line, in_one_line, with_kind
from dfad_fast.runs.writer import RunWriter


class Recovery:
    """Restores the last good state and reports it. ``save`` saves the current state, or raises RunError."""

    def __init__(self, distiller: Distiller, writer: RunWriter, save: Callable[[], None]) -> None:
        self._distiller = distiller
        self._writer = writer
        self.save = save
        self._last_good = distiller.snapshot()

    def keep(self) -> None:
        """Keeps the current state as the last good one."""
        self._last_good = self._distiller.snapshot()

    def keep_evaluation(self) -> None:
        """Updates the last good state with what an evaluation changed."""
        self._last_good.update(self._distiller.evaluated())

    def go_back(self) -> None:
        """Restores the last good state."""
        self._distiller.load_state_dict(self._last_good)
        self.keep()  # a new copy, since the optimizers now use the tensors of the old one

    def give_up(self, bad: NotFinite) -> NoReturn:
        """Saves the last good state and raises RunError about the value that is not finite."""
        kept = self._go_back_and_save()
        raise RunError(
            f"{bad.name} is not finite at iteration {bad.iteration}; {kept}: lower the learning rates "
            "(--student-lr, --generator-lr; in Python, recipe=) or choose another method; at iteration 1 the "
            "cause may be a teacher that returns NaN or inf"
        )

    def fail(self, error: Exception) -> NoReturn:
        """Handles a step that raised, which may have updated only one of the networks."""
        failed, trace = self._distiller.state.iteration, traceback.format_exc()
        named = with_kind(error, first_line(error, 300))
        if processes.count() > 1:
            self._fail_alone(error, named, trace)
        where = ""
        try:
            kept = self._go_back_and_save()
            where = self._writer.write_failure(trace)
        except Exception as further:
            # For example on a full disk, or on a GPU that cannot be used any more after a failed assertion.
            kept = f"the last good state could not be restored or saved ({in_one_line(further)})"
        if isinstance(error, DFADFastError):
            raise error
        raise RunError(f"iteration {failed} failed ({named}); {kept}{where}") from error

    def _fail_alone(self, error: Exception, named: str, trace: str) -> NoReturn:
        """Handles a failure in one process of several.

        The others can no longer contribute their part of the state, so the last checkpoint stays unchanged. They notice
        when this process ends.
        """
        failed, lost = self._distiller.state.iteration, processes.as_lost(error)
        where = "" if lost else self._writer.write_failure_alone(trace)
        if lost or isinstance(error, DFADFastError):
            raise lost or error
        raise RunError(
            f"iteration {failed} failed in process {processes.rank()} ({named}); {self._writer.describe_kept()}{where}"
        ) from error

    def _go_back_and_save(self) -> str:
        """Restores the last good state, saves it, and returns a description of it."""
        distiller, out = self._distiller, self._writer.out
        self.go_back()
        kept = f"everything is back at the last good state, iteration {distiller.state.iteration}"
        if out:
            try:
                self.save()
                kept += f", saved in {out}"
            except RunError as error:
                kept += f", but {error}"
        return kept

    @contextmanager
    def telling_of_lost_processes(self) -> Iterator[None]:
        """Replaces an error that was caused by the end of another process with one that says so."""
        try:
            yield
        except Exception as error:
            if lost := processes.as_lost(error):
                raise processes.ProcessLost(
                    f"{lost} at iteration {self._distiller.state.iteration}: see what that process said; "
                    f"{self._writer.describe_kept()}"
                ) from error
            raise
