"""A run's last good state, and what is left of the run when something goes wrong."""

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
    """Goes back to the last good state and says so. ``save`` saves the state at hand, or raises RunError."""

    def __init__(self, distiller: Distiller, writer: RunWriter, save: Callable[[], None]) -> None:
        self._distiller = distiller
        self._writer = writer
        self._save = save
        self._last_good = distiller.snapshot()

    def keep(self) -> None:
        """The state at hand is good."""
        self._last_good = self._distiller.snapshot()

    def keep_evaluation(self) -> None:
        """So is what an evaluation changed of it."""
        self._last_good.update(self._distiller.evaluated())

    def go_back(self) -> None:
        """To the last good state."""
        self._distiller.load_state_dict(self._last_good)
        self.keep()  # optimizers took over the last one's very tensors

    def give_up(self, bad: NotFinite) -> NoReturn:
        kept = self._go_back_and_save()
        raise RunError(
            f"{bad.name} is not finite at iteration {bad.iteration}; {kept}: lower the learning rates "
            "(--student-lr, --generator-lr; in Python, recipe=) or choose another method; a teacher that "
            "answers NaN or inf shows at iteration 1"
        )

    def fail(self, error: Exception) -> NoReturn:
        """After a step that raised, which may have updated one network and not the other."""
        failed, trace = self._distiller.state.iteration, traceback.format_exc()
        named = with_kind(error, first_line(error, 300))
        if processes.count() > 1:
            self._fail_alone(error, named, trace)
        where = ""
        try:
            kept = self._go_back_and_save()
            where = self._writer.write_failure(trace)
        except Exception as further:
            # As on a GPU after a failed assertion, where nothing can be read or written any more, or on a full disk.
            kept = f"the last good state could not be brought back or saved ({in_one_line(further)})"
        if isinstance(error, DFADFastError):
            raise error
        raise RunError(f"iteration {failed} failed ({named}); {kept}{where}") from error

    def _fail_alone(self, error: Exception, named: str, trace: str) -> NoReturn:
        """In one process of several. The others can no longer be asked for their part of the state, so that the last
        checkpoint stays what it is; they notice when this process ends."""
        failed, lost = self._distiller.state.iteration, processes.as_lost(error)
        where = "" if lost else self._writer.write_failure_alone(trace)
        if lost or isinstance(error, DFADFastError):
            raise lost or error
        raise RunError(
            f"iteration {failed} failed in process {processes.rank()} ({named}); {self._writer.describe_kept()}{where}"
        ) from error

    def _go_back_and_save(self) -> str:
        """Says so."""
        distiller, out = self._distiller, self._writer.out
        self.go_back()
        kept = f"everything is back at the last good state, iteration {distiller.state.iteration}"
        if out:
            try:
                self._save()
                kept += f", saved in {out}"
            except RunError as error:
                kept += f", but {error}"
        return kept

    @contextmanager
    def telling_of_lost_processes(self) -> Iterator[None]:
        """Says so where another process's end is what caused an error."""
        try:
            yield
        except Exception as error:
            if lost := processes.as_lost(error):
                raise processes.ProcessLost(
                    f"{lost} at iteration {self._distiller.state.iteration}: see what that process said; "
                    f"{self._writer.describe_kept()}"
                ) from error
            raise
