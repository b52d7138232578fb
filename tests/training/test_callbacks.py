"""What a run tells its callbacks, in which order, however it ends."""

import signal
from dataclasses import FrozenInstanceError

import pytest
import torch

from dfad_fast import DFADTrainer
from dfad_fast.errors import DFADFastWarning, RunError, UsageError
from dfad_fast.methods import Method
from dfad_fast.runs.events import Callback
from dfad_fast.terms import L1, Weighted
from dfad_fast.training.trainer import Stopped
from tests.training.test_trainer import SHAPE, SMALL, Raises

EVENTS = ("started", "stepped", "recorded", "sampled", "ended", "failed")


class Listens(Callback):
    """Writes down what it is told. ``do`` is what it does, by the name of an event."""

    def __init__(self, **do):
        self.names, self.events, self.lines = [], [], []
        for name in EVENTS:
            setattr(self, name, lambda event, name=name: self.take(name, event, do.get(name)))

    def take(self, name, event, do):
        self.names.append(name)
        self.events.append(event)
        if do:
            do(event)

    def told(self, text):
        self.lines.append(text)

    def closed(self, failed):
        self.names.append(f"closed, {failed=}")


def test_a_run_tells_what_happens_in_order(pair, tmp_path):
    first, second = Listens(), Listens()
    trainer = DFADTrainer(*pair, SHAPE, "dfad", out=tmp_path, **SMALL)
    summary = trainer.fit(2, log_every=1, evaluate_every=1, callbacks=[first, second])
    of_an_iteration = ["recorded", "sampled", "stepped", "recorded", "stepped"]
    assert first.names == second.names == ["started", *of_an_iteration, "ended", "closed, failed=False"]
    started, recorded, sampled, stepped, *_, ended = first.events
    assert (started.folder, started.iteration, started.target, started.history) == (tmp_path, 0, 2, ())
    assert recorded.record == trainer.history[0]
    assert (sampled.iteration, sampled.generated_images, stepped.iteration) == (1, 6 * 8, 1)
    assert ended.summary.as_data() == summary
    assert list(ended.history) == trainer.history
    assert sampled.samples.images.shape[1:] == ended.samples.images.shape[1:] == SHAPE
    assert first.lines[-1] == "scoring held-out generated images: 1,024 of 1,024"
    trainer.fit(1, callbacks=[again := Listens()])
    assert (again.events[0].iteration, again.events[0].target, len(again.events[0].history)) == (2, 3, 2)
    for event in first.events:
        with pytest.raises(FrozenInstanceError):
            event.iteration = 7


def test_without_a_folder_there_are_no_samples_and_no_end(pair):
    listens = Listens()
    DFADTrainer(*pair, SHAPE, "dfad", **SMALL).fit(1, callbacks=[listens])
    assert listens.names == ["started", "recorded", "stepped", "closed, failed=False"]
    assert listens.events[0].folder is None


@pytest.mark.parametrize("signalled", [False, True])
def test_a_run_that_is_stopped_is_told_of_as_ended(pair, tmp_path, signalled):
    trainer = DFADTrainer(*pair, SHAPE, "dfad", out=tmp_path, **SMALL)
    listens = Listens(stepped=lambda _: signal.raise_signal(signal.SIGINT) if signalled else trainer.stop())
    try:
        trainer.fit(5, log_every=5, callbacks=[listens])
    except Stopped:
        assert signalled
    assert listens.names == ["started", "stepped", "recorded", "ended", "closed, failed=False"]


def test_a_failure_is_told_before_all_is_closed(pair, tmp_path):
    method = Method("bad", "", (Weighted(1.0, L1()), Weighted(1.0, Raises(8))), (Weighted(-1.0, L1()),))
    listens = Listens(failed=lambda _: pages.append((tmp_path / "report.html").exists()))
    pages = []
    trainer = DFADTrainer(*pair, SHAPE, method, out=tmp_path, **SMALL)
    with pytest.raises(RunError, match="iteration 2 failed") as caught:
        trainer.fit(3, log_every=3, callbacks=[listens])
    assert listens.names == ["started", "stepped", "failed", "closed, failed=True"]
    assert listens.events[-1].error is caught.value
    assert pages == [True]  # which the run's own drawings made before


@pytest.mark.parametrize("moment", ["started", "stepped", "recorded", "ended"])
def test_an_error_of_a_callback_ends_the_run_as_it_is(pair, tmp_path, moment):
    def fails(_):
        raise ZeroDivisionError("of my own")

    listens = Listens(**{moment: fails})
    with pytest.raises(ZeroDivisionError, match="of my own"):
        DFADTrainer(*pair, SHAPE, "dfad", out=tmp_path, **SMALL).fit(1, callbacks=[listens])
    assert listens.names[-3:] == [moment, "failed", "closed, failed=True"]
    assert (tmp_path / "traceback.txt").read_text() == "ZeroDivisionError: of my own\n"


def test_one_that_fails_at_the_end_keeps_no_other_from_being_closed(pair, tmp_path):
    class FailsToClose(Callback):
        def closed(self, failed):
            raise OSError("stuck")

    other = Listens()
    trainer = DFADTrainer(*pair, SHAPE, "dfad", out=tmp_path, **SMALL)
    with pytest.raises(OSError, match="stuck"):
        trainer.fit(1, callbacks=[FailsToClose(), other])
    assert other.names[-1] == "closed, failed=False"


def test_an_async_callback_is_refused(pair):
    class Waits(Callback):
        async def recorded(self, event):
            pass

    trainer = DFADTrainer(*pair, SHAPE, "dfad", **SMALL)
    with pytest.raises(UsageError, match=r"Waits\.recorded is an async function"):
        trainer.fit(1, callbacks=[Waits()])
    assert trainer.planned_iterations is None


def test_a_record_that_a_callback_changes_is_its_own(pair):
    trainer = DFADTrainer(*pair, SHAPE, "dfad", **SMALL)
    trainer.fit(1, callbacks=[Listens(recorded=lambda event: event.record.clear())])
    assert trainer.history[0]["iteration"] == 1


def test_a_run_that_fails_before_its_first_record_plans_nothing(pair, tmp_path):
    def fails(_):
        raise ZeroDivisionError

    trainer = DFADTrainer(*pair, SHAPE, "dfad", out=tmp_path, **SMALL)
    hook = trainer.student.register_forward_hook(lambda *_: fails(None))
    with pytest.raises(RunError):
        trainer.fit(100)
    hook.remove()
    assert trainer.planned_iterations is None
    trainer.fit(1)
    assert trainer.planned_iterations == 1


def _at(iteration, error):
    def raises(event):
        if event.iteration == iteration:
            raise error

    return raises


@pytest.mark.parametrize(
    ("error", "ends_with"), [(KeyboardInterrupt(), Stopped), (SystemExit(3), SystemExit)], ids=["key", "exit"]
)
def test_an_interruption_of_a_callback_saves_as_ctrl_c_does(pair, tmp_path, error, ends_with):
    trainer = DFADTrainer(*pair, SHAPE, "dfad", out=tmp_path, **SMALL)
    listens = Listens(stepped=_at(3, error))
    with pytest.raises(ends_with) as caught:
        trainer.fit(5, log_every=5, callbacks=[listens])
    assert error in (caught.value, caught.value.__cause__)
    assert listens.names == ["started", *3 * ["stepped"], "recorded", "ended", "closed, failed=False"]
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["iteration"] == 3
    assert (tmp_path / "summary.json").is_file()


def test_an_interrupted_data_loader_leaves_the_record_without_scores(pair, tmp_path):
    batches = iter([[(torch.randn(4, *SHAPE), torch.zeros(4, dtype=torch.int64))]])

    class Loader:
        def __iter__(self):
            if (batch := next(batches, None)) is None:
                raise KeyboardInterrupt
            return iter(batch)

    trainer = DFADTrainer(*pair, SHAPE, "dfad", out=tmp_path, **SMALL)
    with pytest.raises(Stopped):
        trainer.fit(5, Loader(), log_every=2, evaluate_every=2)
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["iteration"] == 2
    assert [record["iteration"] for record in trainer.history] == [2]
    assert "student_accuracy" not in trainer.history[0]


def test_an_interrupted_step_goes_back_to_the_last_record(pair, tmp_path):
    trainer = DFADTrainer(*pair, SHAPE, "dfad", out=tmp_path, **SMALL)

    def interrupts(*_):
        if trainer.iteration == 4:
            hook.remove()
            raise KeyboardInterrupt

    hook = trainer.student.register_forward_hook(interrupts)
    with pytest.raises(Stopped):
        trainer.fit(5, log_every=2)
    assert trainer.iteration == 2
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["iteration"] == 2


def test_an_error_of_a_callback_loses_no_iteration(pair, tmp_path):
    trainer = DFADTrainer(*pair, SHAPE, "dfad", out=tmp_path, **SMALL)
    with pytest.raises(ZeroDivisionError):
        trainer.fit(5, log_every=5, callbacks=[Listens(stepped=_at(3, ZeroDivisionError()))])
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["iteration"] == 3
    assert trainer.history[-1]["iteration"] == 3
    assert trainer.history[-1]["seconds"] > 0


def test_an_interruption_at_the_last_iteration_is_raised_too(pair):
    for error, ends_with in ((KeyboardInterrupt(), Stopped), (SystemExit(3), SystemExit)):
        trainer = DFADTrainer(*pair, SHAPE, "dfad", **SMALL)
        with pytest.raises(ends_with):
            trainer.fit(1, callbacks=[Listens(stepped=_at(1, error))])
        assert trainer.iteration == 1


def test_an_exit_when_the_run_starts_trains_nothing(pair):
    def leaves(_):
        raise SystemExit(4)

    trainer = DFADTrainer(*pair, SHAPE, "dfad", **SMALL)
    with pytest.raises(SystemExit):
        trainer.fit(2, callbacks=[Listens(started=leaves)])
    assert trainer.iteration == 0


def test_the_first_of_two_interruptions_counts(pair):
    first, second = Listens(stepped=_at(1, SystemExit(7))), Listens(stepped=_at(1, KeyboardInterrupt()))
    with pytest.raises(SystemExit, match="7"):
        DFADTrainer(*pair, SHAPE, "dfad", **SMALL).fit(2, callbacks=[first, second])


def test_an_evaluation_that_fails_after_an_interruption_is_told(pair):
    batches = iter([[(torch.randn(4, *SHAPE), torch.zeros(4, dtype=torch.int64))]])

    class Fails:
        def __iter__(self):
            if (batch := next(batches, None)) is None:
                signal.raise_signal(signal.SIGINT)
                raise ValueError("of the loader")
            return iter(batch)

    trainer = DFADTrainer(*pair, SHAPE, "dfad", **SMALL)
    with pytest.warns(DFADFastWarning, match="ValueError: of the loader"), pytest.raises(Stopped):
        trainer.fit(1, Fails())
