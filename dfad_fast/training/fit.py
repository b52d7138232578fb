"""A run of many iterations: its records and checkpoints, and what is left of it when something goes wrong."""

from __future__ import annotations

import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from dfad_fast.data.labelled_batches import Batches
from dfad_fast.distributed import processes
from dfad_fast.engine.evaluation import TestSet
from dfad_fast.engine.losses import Losses, NotFinite
from dfad_fast.errors import DFADFastError, DFADFastWarning, RunError, in_one_line
from dfad_fast.reporting import sheets
from dfad_fast.reporting.report_page.page import write_page_if_possible
from dfad_fast.runs import checkpoints, run_folder
from dfad_fast.runs.run_folder import LockLost, RunFolder
from dfad_fast.settings import COUNT
from dfad_fast.terminal import quoted
from dfad_fast.training import outcome
from dfad_fast.training.interrupt import StopOnSignal
from dfad_fast.wording import counted

if TYPE_CHECKING:
    from dfad_fast.training.trainer import DFADTrainer


_UNTIL_FIRST_CHECKPOINT = 5.0  # seconds


class Stopped(KeyboardInterrupt):
    """A run was stopped by Ctrl-C or SIGTERM, after everything was saved."""


class Progress(Protocol):
    """What ``fit`` tells of a run while it lasts. A method ``tell(text)``, where there is one, gets lines that say how
    far the scores at the end are."""

    def advance(self, iteration: int) -> None:
        """One more iteration is done. Called often: must be cheap."""

    def log(self, record: dict[str, Any]) -> None:
        """A record of metrics.jsonl was written."""


class Fit:
    """Runs iterations of ``trainer``; see :meth:`DFADTrainer.fit` for the arguments and for what is raised."""

    def __init__(
        self,
        trainer: DFADTrainer,
        evaluate: Batches | None,
        log_every: int | None,
        evaluate_every: int | None,
        progress: Progress | None,
    ) -> None:
        self._trainer = trainer
        self._evaluate = evaluate
        self._log_every = log_every
        self._evaluate_every = evaluate_every
        self._progress = progress
        self._losses = Losses()
        self._held_out = 0
        """Held-out generated images that are looked at in each evaluation."""
        self._last_good = trainer.snapshot()
        self._has_checkpoint = trainer.out is None or bool(checkpoints.all_of(trainer.out))

    def run(self, iterations: int) -> dict[str, Any]:
        """So many more; returns the summary."""
        trainer = self._trainer
        COUNT.refuse("iterations", iterations)
        target = trainer.iteration + iterations
        if trainer.planned_iterations is None or trainer.planned_iterations < target:
            self._warn_of_higher_rate(trainer.planned_iterations, target)
            trainer.planned_iterations = target
        log_every = self._log_every or max(1, trainer.planned_iterations // 100)
        evaluate_every = self._evaluate_every or 4 * log_every
        plan = {"iterations": target, "log_every": log_every, "evaluate_every": evaluate_every}
        processes.refuse_differences({**plan, "evaluate": self._evaluate is not None})
        folder = trainer.folder.path if trainer.folder else None
        opened = trainer.loggers.opened(folder, trainer.iteration, trainer.history)
        trainer.on_folder(lambda folder: folder.begin_writing())
        trainer.losses = self._losses
        trainer.stop_asked = False
        try:
            trainer.on_folder(lambda folder: (folder.path / run_folder.TRACEBACK).unlink(missing_ok=True))
            with StopOnSignal() as stop, self._failure_noted(), self._telling_of_lost_processes(), opened:
                processes.wait()  # a logger may take its time
                test_set = (
                    TestSet(trainer.networks.teacher, self._evaluate) if self._evaluate is not None else None
                )
                self._held_out = outcome.held_out_images(trainer, evaluate_every)
                signalled = self._iterate(target, log_every, evaluate_every, test_set, stop)
                if not self._losses.empty:  # nothing unchecked is saved
                    # Who sends a signal may not wait for an evaluation.
                    self._record(test_set, evaluated=not signalled)
                summary = trainer.save(test_set, getattr(self._progress, "tell", lambda text: None))
        finally:
            trainer.losses = None
            if trainer.folder:
                trainer.folder.end_writing()
        if signalled and trainer.iteration < target:
            raise Stopped
        return summary

    def _warn_of_higher_rate(self, planned: int | None, target: int) -> None:
        """Where a plan that grows would take back some of the schedule."""
        trainer, factor = self._trainer, self._trainer.recipe.rate_factor
        if planned is None or not trainer.iteration or not processes.is_first():
            return
        before = factor((trainer.iteration - 1) / planned)
        after = factor(trainer.iteration / target)
        if after > 1.01 * before:
            rate = trainer.recipe.student_lr
            warnings.warn(
                f"the student's learning rate rises again, from {before * rate:.3g} to {after * rate:.3g}, since its "
                f"schedule was planned for {counted(planned, 'iteration')} and is stretched to {target:,}: to avoid "
                "that, plan all of them from the beginning (trainer.planned_iterations, before the first fit), or take "
                "a Recipe with lr_decay='constant'",
                DFADFastWarning,
                stacklevel=4,
            )

    def _iterate(
        self, target: int, log_every: int, evaluate_every: int, test_set: TestSet | None, stop: StopOnSignal
    ) -> bool:
        """Until the target, or until it is to stop; whether it was stopped by a signal."""
        trainer = self._trainer
        assert trainer.planned_iterations is not None
        saved_at = time.monotonic()
        while trainer.iteration < target:
            started = time.perf_counter()
            try:
                trainer.step()
            except Exception as error:
                self._fail(error)
            trainer.seconds += time.perf_counter() - started
            last = trainer.iteration == target
            if last or trainer.iteration % log_every == 0:
                evaluated = last or trainer.iteration % evaluate_every == 0
                self._record(test_set, evaluated)
                if not last and sheets.is_due(trainer.iteration, evaluate_every, trainer.planned_iterations):
                    self._draw_sheet()
            if self._progress:
                self._progress.advance(trainer.iteration)
            # What only some of the processes noticed, so that all do the same.
            signalled, stop_asked, checkpoint_due = processes.any_of(
                stop.requested,
                trainer.stop_asked,
                processes.is_first() and self._is_checkpoint_due(time.monotonic() - saved_at),
            )
            if signalled or stop_asked:
                return signalled
            if checkpoint_due and not last:  # at the end all is saved
                self._write_checkpoint()
                saved_at = time.monotonic()
        return False

    def _is_checkpoint_due(self, seconds: float) -> bool:
        """After so many seconds since the last one, or iterations; the first one soon, for a run that is killed."""
        every = self._trainer.checkpoint_iterations
        due = every is not None and self._trainer.iteration % every == 0
        most = self._trainer.checkpoint_seconds
        return due or seconds > (most if self._has_checkpoint else min(most, _UNTIL_FIRST_CHECKPOINT))

    def _write_checkpoint(self) -> None:
        """A full disk is no reason to end a run that may find room again."""
        if not self._losses.empty:
            self._record(None, evaluated=False)
        state = self._trainer.state_of_all()

        def write(folder: RunFolder) -> None:
            try:
                folder.write_checkpoint(state)
            except LockLost:
                raise
            except RunError as error:
                warnings.warn(
                    f"{error}; training goes on, with the checkpoint before it kept",
                    DFADFastWarning,
                    stacklevel=2,
                )

        self._trainer.on_folder(write)
        self._has_checkpoint = True

    def _draw_sheet(self) -> None:
        trainer = self._trainer
        if not trainer.out:
            return
        try:
            samples = outcome.try_to_label_samples(trainer, sheets.IMAGES)
        except Exception as error:  # of a network of the user's, as in a step
            self._fail(error)
        if samples is not None:
            trainer.on_folder(lambda folder: outcome.draw_sheet(trainer, folder, samples))

    def _record(self, test_set: TestSet | None, evaluated: bool) -> None:
        trainer = self._trainer
        started = time.perf_counter()
        record = self._checked_record()
        trainer.seconds += time.perf_counter() - started
        record["seconds"] = round(trainer.seconds, 3)
        if evaluated:
            try:
                record |= outcome.evaluate(trainer, test_set, self._held_out)
            except Exception as error:  # of a network or a loader of the user's, as in a step
                self._fail(error)
            self._last_good.update(trainer.best_so_far())
        trainer.history.append(record)
        if trainer.folder:
            trainer.folder.append_metrics(record)
        trainer.loggers.record(record)
        if self._progress:
            self._progress.log(record)

    def _checked_record(self) -> dict[str, Any]:
        """The metrics since the last record. The only place of a run that waits for the device."""
        trainer = self._trainer
        losses, bad = self._losses.take()
        if bad is None and trainer.has_diverged():
            bad = NotFinite("a weight", trainer.iteration)
        of_all = processes.collect((bad, {**losses, **self._batch_agreement()}))
        bad = next((found for found, _ in of_all if found is not None), None)
        if bad is not None:
            self._give_up(bad)
        self._last_good = trainer.snapshot()
        values = [own for _, own in of_all]
        return {
            "iteration": trainer.iteration,
            "generated_images": trainer.generated_images,
            **{name: sum(own[name] for own in values) / len(values) for name in values[0]},
            **trainer.rates,
        }

    def _batch_agreement(self) -> dict[str, float]:
        """On the last batch that the student learnt from; nothing where it has learnt from none."""
        if self._trainer.answers is None:
            return {}
        student, teacher = self._trainer.answers
        return {"agreement_batch": (student.argmax(1) == teacher.argmax(1)).float().mean().item()}

    def _give_up(self, bad: NotFinite) -> NoReturn:
        kept = self._go_back()
        raise RunError(
            f"{bad.name} is not finite at iteration {bad.iteration}; {kept}: lower the learning rates "
            "(--student-lr, --generator-lr; in Python, recipe=) or choose another method; a teacher that "
            "answers NaN or inf shows at iteration 1"
        )

    def _fail(self, error: Exception) -> NoReturn:
        """After a step that raised, which may have updated one network and not the other."""
        failed, trace = self._trainer.iteration, traceback.format_exc()
        if processes.count() > 1:
            self._fail_alone(error, failed, trace)
        try:
            kept = self._go_back()
            if self._trainer.folder:
                self._trainer.folder.write_text(run_folder.TRACEBACK, trace)
        except Exception as further:
            # As on a GPU after a failed assertion, where nothing can be read or written any more, or on a full disk.
            kept = f"the last good state could not be brought back or saved ({in_one_line(further)})"
        if isinstance(error, DFADFastError):
            raise error
        where = f"; where it happened stands in {run_folder.TRACEBACK} there" if self._trainer.folder else ""
        raise RunError(f"iteration {failed} failed ({_named(error)}); {kept}{where}") from error

    def _fail_alone(self, error: Exception, failed: int, trace: str) -> NoReturn:
        """In one process of several. The others can no longer be asked for their part of the state, so that the last
        checkpoint stays what it is; they notice when this process ends."""
        where = ""
        lost = processes.as_lost(error)
        if self._trainer.out and not lost:
            path = self._trainer.out / run_folder.TRACEBACK
            with suppress(RunError):  # a machine that does not share the folder
                run_folder.write_whole(path, lambda temporary: temporary.write_text(trace))
                where = f"; where it happened stands in {run_folder.TRACEBACK} there"
        if lost or isinstance(error, DFADFastError):
            raise lost or error
        raise RunError(
            f"iteration {failed} failed in process {processes.rank()} ({_named(error)}); {self._kept()}{where}"
        ) from error

    def _go_back(self) -> str:
        """To the last good state; says so."""
        trainer = self._trainer
        trainer.load_state_dict(self._last_good)
        self._last_good = trainer.snapshot()  # optimisers took over its very tensors
        kept = f"everything is back at the last good state, iteration {trainer.iteration}"
        if trainer.out:
            try:
                trainer.save_state()
                kept += f", saved in {trainer.out}"
            except RunError as error:
                kept += f", but {error}"
        return kept

    @contextmanager
    def _failure_noted(self) -> Iterator[None]:
        """An error that ends the run stands in its folder, if it can still be written to, and on its page."""
        try:
            yield
        except Exception as error:
            folder = self._trainer.folder
            if folder and folder.lock.is_ours:
                if not (folder.path / run_folder.TRACEBACK).exists():
                    with suppress(RunError):
                        folder.write_text(run_folder.TRACEBACK, f"{type(error).__name__}: {error}\n")
                write_page_if_possible(folder.path)
            raise

    @contextmanager
    def _telling_of_lost_processes(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if lost := processes.as_lost(error):
                raise processes.ProcessLost(
                    f"{lost} at iteration {self._trainer.iteration}: see what that process said; {self._kept()}"
                ) from error
            raise

    def _kept(self) -> str:
        """What there is to go on from, where not all can save it together."""
        out = self._trainer.out
        if out is None or not checkpoints.all_of(out):
            return "nothing of the run is saved yet"
        return f"{out} holds the last checkpoint: go on with dfad-fast resume {quoted(out)}"


def _named(error: Exception) -> str:
    """Its kind, and the first line of what it says: its traceback stands elsewhere."""
    first = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {first[:300]}"
