"""Writes weights, checkpoints and records of a run to its folder, in the first process."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from dfad_fast.attempts import Attempts
from dfad_fast.distributed import collectives
from dfad_fast.engine.best import BestStudent
from dfad_fast.engine.trained import Trained
from dfad_fast.errors import DFADFastWarning, RunError
from dfad_fast.runs import layout
from dfad_fast.runs.folder import LockLost, RunFolder
from dfad_fast.runs.whole_files import write_whole
from dfad_fast.terminal import quoted

T = TypeVar("T")

_WEIGHTS = {
    layout.STUDENT: "student",
    layout.AVERAGED: "averaged_student",
    layout.GENERATOR: "generator",
}
"""Weights files, and the names of their contents in ``Distiller.trained``."""


class RunWriter:
    """Writes to the folder ``out``. All processes call the same methods; ``folder`` is None in all but the first.

    Without ``out`` it writes nothing. ``saved`` is called after each checkpoint.
    """

    def __init__(
        self, out: Path | None, folder: RunFolder | None, saved: Callable[[], None] = lambda: None
    ) -> None:
        self.out = out
        self.folder = folder
        self._saved = saved

    def on_folder(self, use: Callable[[RunFolder], T]) -> T | None:
        """What ``use`` returns for the folder; None if there is no folder."""
        return collectives.on_first(lambda: use(self.folder) if self.folder else None)

    @property
    def has_checkpoint(self) -> bool:
        """Whether the folder holds a checkpoint."""
        return self.out is not None and bool(layout.checkpoints_in(self.out))

    def begin(self) -> None:
        """Locks the folder for a ``fit``."""
        self.on_folder(RunFolder.begin_writing)

    def forget_failure(self) -> None:
        """Removes the traceback of an earlier ``fit``."""
        self.on_folder(lambda folder: (folder.path / layout.TRACEBACK).unlink(missing_ok=True))

    def end(self) -> None:
        """Unlocks the folder. Does not need the other processes, which may be gone."""
        if self.folder:
            self.folder.end_writing()

    def record(self, record: Mapping[str, Any]) -> None:
        """Adds a record to metrics.jsonl."""
        if self.folder:
            self.folder.append_metrics(record)

    def write_checkpoint(self, state: Mapping[str, Any]) -> None:
        """Writes a checkpoint. Only warns if the disk is full, since space may become free again."""

        def write(folder: RunFolder) -> None:
            try:
                self._write_checkpoint(folder, state)
            except LockLost:
                raise
            except RunError as error:
                warnings.warn(
                    f"{error}; training continues, and the previous checkpoint is kept",
                    DFADFastWarning,
                    stacklevel=2,
                )

        self.on_folder(write)

    def _write_checkpoint(self, folder: RunFolder, state: Mapping[str, Any]) -> None:
        folder.write_checkpoint(state)
        self._saved()

    def try_to_save(
        self,
        attempts: Attempts,
        trained: Trained,
        best: BestStudent,
        iteration: int,
        state: Callable[[], Mapping[str, Any]],
    ) -> None:
        """Writes the student's weights first and the checkpoint, the largest file, last.

        ``state`` returns its content, which all processes collect together.
        """
        if not self.out:
            return

        def write_weights(folder: RunFolder) -> list[tuple[str, str]]:
            own = Attempts()
            told = {"iteration": str(iteration)}
            for file, name in _WEIGHTS.items():
                if name in trained:
                    own.attempt(
                        file,
                        lambda: folder.write_weights(file, trained.state_of(name), told),  # noqa: B023
                    )
            own.attempt(layout.BEST, lambda: write_best(folder, best))
            return own.failures

        attempts.failures += self.on_folder(write_weights) or []
        if collected := attempts.attempt(layout.CHECKPOINT, state, together=True):

            def write_state(folder: RunFolder) -> list[tuple[str, str]]:
                own = Attempts()
                own.attempt(layout.CHECKPOINT, lambda: self._write_checkpoint(folder, collected))
                return own.failures

            attempts.failures += self.on_folder(write_state) or []

    def write_failure(self, trace: str) -> str:
        """Writes the traceback in the first process and returns where it is."""
        if not self.folder:
            return ""
        self.folder.write_text(layout.TRACEBACK, trace)
        return f"; the traceback is in {layout.TRACEBACK} there"

    def write_failure_alone(self, trace: str) -> str:
        """Writes the traceback in any process, without the others."""
        if self.out:
            path = self.out / layout.TRACEBACK
            with suppress(RunError):  # this machine may not share the folder
                write_whole(path, lambda temporary: temporary.write_text(trace))
                return f"; the traceback is in {layout.TRACEBACK} there"
        return ""

    def note_failure(self, error: Exception) -> bool:
        """Records the error that ends the run in its folder. Returns whether the folder still belongs to this run."""
        folder = self.folder
        if not folder or not folder.lock.is_ours:
            return False
        if not (folder.path / layout.TRACEBACK).exists():
            with suppress(RunError):
                folder.write_text(layout.TRACEBACK, f"{type(error).__name__}: {error}\n")
        return True

    def describe_kept(self) -> str:
        """What the run can resume from, if the processes cannot save their state together."""
        if not self.has_checkpoint:
            return "nothing of the run is saved yet"
        return f"{self.out} holds the last checkpoint: resume with dfad-fast resume {quoted(self.out or '')}"


def write_best(folder: RunFolder, best: BestStudent) -> None:
    """Writes the best student's weights, if there is one."""
    if best.weights is not None:
        # One entry, since the order of several would differ from file to file.
        folder.write_weights(layout.BEST, best.weights, {"iteration": str(best.iteration)})
