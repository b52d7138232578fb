"""The loop of a run: iterations, records, evaluations, sheets and checkpoints, until the target or a stop."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from operator import methodcaller
from typing import Any

from dfad_fast.data.labeled_batches import Batches
from dfad_fast.distributed import collectives, processes
from dfad_fast.engine.distiller import Distiller
from dfad_fast.engine.evaluating import evaluate, held_out_images
from dfad_fast.engine.evaluation import TestSet
from dfad_fast.engine.iteration import Result
from dfad_fast.engine.losses import Losses, NotFinite
from dfad_fast.errors import DFADFastWarning, first_line, with_kind
from dfad_fast.models.black_box import QueryBudgetSpent
from dfad_fast.reporting import sheets
from dfad_fast.reporting.samples import Normalization, try_to_label_samples
from dfad_fast.runs import stability
from dfad_fast.runs.budget import IterationStart
from dfad_fast.runs.events import Callback, Recorded, Sampled, Started, Stepped
from dfad_fast.runs.interruption import Interruption
from dfad_fast.runs.recovery import Recovery
from dfad_fast.runs.telling import Listeners
from dfad_fast.runs.writer import RunWriter
from dfad_fast.training.timetable import Timetable

_UNTIL_FIRST_CHECKPOINT = 5.0  # seconds


class Loop:
    """Runs a ``distiller`` by ``timetable`` and reports to ``callbacks``. ``history`` holds the records so far.

    ``step`` runs an iteration; it is the trainer's method, which a subclass may override. ``run`` calls ``finish`` with
    the test set at the end. ``stop_asked`` ends the run after the current iteration.
    """

    def __init__(
        self,
        distiller: Distiller,
        step: Callable[[], object],
        writer: RunWriter,
        recovery: Recovery,
        timetable: Timetable,
        history: list[dict[str, Any]],
        callbacks: Sequence[Callback],
        normalization: Normalization,
    ) -> None:
        self._distiller = distiller
        self._step = step
        self._writer = writer
        self._recovery = recovery
        self._times = timetable
        self._history = history
        self.interruption = Interruption()
        self._listeners = Listeners(callbacks, self.interruption, self._save_before_failing)
        self._normalization = normalization
        self._losses = Losses()
        self._iteration_start = IterationStart(distiller)
        self._last: Result | None = None
        self._held_out = held_out_images(distiller, timetable.evaluate_every)
        self._has_checkpoint = writer.out is None or writer.has_checkpoint
        self._began_at = distiller.state.iteration
        self._can_test = True
        self.stop_asked = False
        self._signalled = False  # whether a signal or another interruption ended the run

    @property
    def cut_short(self) -> bool:
        """Whether an interruption cost iterations or an evaluation, or came from the caller's code."""
        missed = self._signalled and self._distiller.state.iteration < self._times.target
        return missed or not self._can_test or self.interruption.raised is not None

    def run(
        self, batches: Batches | None, finish: Callable[[TestSet | None], dict[str, Any]]
    ) -> dict[str, Any]:
        """Runs to the target or a stop. Returns what ``finish`` returns."""
        self._distiller.ended = []
        self._writer.begin()
        try:
            self._writer.forget_failure()
            with (
                self.interruption,
                self._listeners.closed_at_the_end(),
                self._listeners.told_of_failure(self._writer),
                self._recovery.telling_of_lost_processes(),
            ):
                self._tell_of_start()
                collectives.wait()  # loggers may take long to start
                teacher, shape = self._distiller.networks.teacher, self._distiller.form.shape
                device = self._distiller.device
                test_set = TestSet(teacher, batches, device, shape) if batches is not None else None
                self._iterate(test_set)
                if not self._losses.empty:  # check the losses before saving
                    # After a signal there may be no time for an evaluation.
                    self._record(test_set, evaluated=not self._signalled)
                return finish(test_set if self._can_test else None)
        finally:
            self._writer.end()

    def _save_before_failing(self) -> None:
        """Saves all iterations so far when a callback raised. Its error takes precedence over one of saving."""
        if processes.count() > 1 or self._distiller.state.iteration == self._began_at:
            return
        with suppress(Exception):
            if not self._losses.empty:
                self._keep_record(self._timed_record())
            self._recovery.save()

    def _tell_of_start(self) -> None:
        folder = self._writer.folder.path if self._writer.folder else None
        started = Started(folder, self._distiller.state.iteration, self._times.target, tuple(self._history))
        self._listeners.tell(lambda callback: callback.started(started))

    def _iterate(self, test_set: TestSet | None) -> None:
        state, times = self._distiller.state, self._times
        assert state.planned_iterations is not None
        saved_at = time.monotonic()
        self._signalled = processes.count() == 1 and self.interruption.requested  # by a callback at the start
        while not self._signalled and state.iteration < times.target:
            if not self._step_once():
                self._signalled = self.interruption.requested
                return
            last = state.iteration == times.target
            if last or state.iteration % times.log_every == 0:
                self._record(test_set, evaluated=last or state.iteration % times.evaluate_every == 0)
                if not last and sheets.is_due(
                    state.iteration, times.evaluate_every, state.planned_iterations
                ):
                    self._show_sheet()
            self._listeners.tell(methodcaller("stepped", Stepped(state.iteration)))
            # Only some processes may have noticed these; now all act the same.
            self._signalled, stop_asked, checkpoint_due = collectives.any_of(
                self.interruption.requested,
                self.stop_asked,
                processes.is_first() and self._is_checkpoint_due(time.monotonic() - saved_at),
            )
            if self._signalled or stop_asked:
                return
            if checkpoint_due and not last:  # everything is saved at the end anyway
                if not self._losses.empty:
                    self._record(None, evaluated=False)
                self._writer.write_checkpoint(self._distiller.state_of_all())
                self._has_checkpoint = True
                saved_at = time.monotonic()

    def _step_once(self) -> bool:
        """Returns False if the run ends: the query budget of a black box is spent, or a network was interrupted."""
        state, started = self._distiller.state, time.perf_counter()
        self._iteration_start.begin()
        result = None
        try:
            with self.interruption.taken():
                self._step()
                result = self._distiller.last
                assert result is not None
                for losses in result.losses:
                    self._losses.add(state.iteration, losses)
        except QueryBudgetSpent as spent:
            self._end(spent)
            return False
        except Exception as error:
            self._recovery.fail(error)
        if result is None:  # interrupted: the step may have updated only one of the networks
            self._losses.take()
            self._recovery.go_back()
            return False
        self._last = result
        state.seconds += time.perf_counter() - started
        return True

    def _end(self, spent: QueryBudgetSpent) -> None:
        """Ends the run when the query budget of a black box is spent.

        The unfinished iteration is undone, so that a run with a larger budget repeats it from its start.
        """
        if not self._iteration_start.go_back():
            self._losses.take()
            self._recovery.go_back()
        iteration = self._distiller.state.iteration
        ended = f"{spent}: the run ends after iteration {iteration:,} of {self._times.target:,}"
        self._distiller.ended = [ended]
        warnings.warn(f"{ended}, and its student is kept", DFADFastWarning, stacklevel=4)

    def _is_checkpoint_due(self, seconds: float) -> bool:
        """Whether the seconds since the last checkpoint, or the iterations, require one.

        The first comes early, in case the run is killed.
        """
        every, most = self._times.checkpoint_iterations, self._times.checkpoint_seconds
        due = every is not None and self._distiller.state.iteration % every == 0
        return due or seconds > (most if self._has_checkpoint else min(most, _UNTIL_FIRST_CHECKPOINT))

    def _show_sheet(self) -> None:
        if not self._writer.out:
            return
        samples = None
        try:
            with self.interruption.taken():
                samples = try_to_label_samples(self._distiller, self._normalization, sheets.IMAGES)
        except Exception as error:  # from the user's networks, as in a step
            self._recovery.fail(error)
        if samples is not None:
            shown = Sampled(self._distiller.state.iteration, self._distiller.state.generated_images, samples)
            self._writer.on_folder(lambda _: self._listeners.tell(lambda callback: callback.sampled(shown)))

    def _record(self, test_set: TestSet | None, evaluated: bool) -> None:
        state, record = self._distiller.state, self._timed_record()
        if evaluated:
            record |= self._scores(test_set)
        self._keep_record(record)
        if evaluated and processes.is_first():
            goes_on = "; training continues" if state.iteration < self._times.target else ""
            for collapse in stability.new_collapses(self._history):
                warnings.warn(f"{collapse}{goes_on}", DFADFastWarning, stacklevel=3)
        self._listeners.tell(lambda callback: callback.recorded(Recorded(dict(record))))

    def _keep_record(self, record: dict[str, Any]) -> None:
        self._history.append(record)
        self._writer.record(record)

    def _scores(self, test_set: TestSet | None) -> dict[str, float]:
        """The figures of an evaluation; none if it was interrupted."""
        try:
            with self.interruption.taken():
                scores = evaluate(self._distiller, test_set, self._held_out)
                self._recovery.keep_evaluation()
                return scores
        except Exception as error:  # from the user's networks or loader, as in a step
            # Ctrl-C also reaches the processes of a DataLoader, which then fails.
            if not self.interruption.requested or processes.count() > 1:
                self._recovery.fail(error)
            what = f"the evaluation at iteration {self._distiller.state.iteration:,} of a run that was interrupted"
            message = f"{what} failed, so that it has no scores: {with_kind(error, first_line(error, 200))}"
            warnings.warn(message, DFADFastWarning, stacklevel=4)
        self._can_test = False
        return {}

    def _timed_record(self) -> dict[str, Any]:
        state, started = self._distiller.state, time.perf_counter()
        record = self._checked_record()
        state.seconds += time.perf_counter() - started
        return {**record, "seconds": round(state.seconds, 3)}

    def _checked_record(self) -> dict[str, Any]:
        """The metrics since the last record. The only place in a run that waits for the device."""
        distiller = self._distiller
        losses, bad = self._losses.take()
        if bad is None and distiller.trained.has_diverged():
            bad = NotFinite("a weight", distiller.state.iteration)
        agreement = self._last.agreement() if self._last else {}
        of_all = collectives.collect((bad, {**losses, **agreement}))
        bad = next((found for found, _ in of_all if found is not None), None)
        if bad is not None:
            self._recovery.give_up(bad)
        self._recovery.keep()
        values = [own for _, own in of_all]
        return {
            "iteration": distiller.state.iteration,
            "generated_images": distiller.state.generated_images,
            "teacher_passes": distiller.state.teacher_passes,
            "student_passes": distiller.state.student_passes,
            **({"queries": distiller.state.queries} if distiller.queries else {}),
            **{name: sum(own[name] for own in values) / len(values) for name in values[0]},
            **distiller.rates,
        }
