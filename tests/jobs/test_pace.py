from types import SimpleNamespace

import pytest
import torch

from dfad_fast.errors import UsageError
from dfad_fast.jobs import pace
from dfad_fast.jobs.pace import iterations_in


class Timed:
    """Iterations that take so many seconds on a clock of their own, the first ones to fill a bank."""

    def __init__(self, monkeypatch, filling=0, each=0.5, to_fill=4.0, graph=False):
        self.now, self.steps = 0.0, 0
        self.seconds = [to_fill] * filling
        self.each = each
        self.distiller = SimpleNamespace(
            device=torch.device("cpu"),
            levers=SimpleNamespace(graph=graph),
            method=SimpleNamespace(student_steps=5),
            last=None,
        )
        monkeypatch.setattr(pace.time, "perf_counter", lambda: self.now)

    def step(self):
        filling = self.steps < len(self.seconds)
        self.now += self.seconds[self.steps] if filling else self.each
        self.distiller.last = SimpleNamespace(answers=None if filling else ())
        self.steps += 1


def test_a_length_of_time_in_iterations(monkeypatch):
    assert iterations_in(100.0, Timed(monkeypatch)) == 200
    assert iterations_in(0.1, Timed(monkeypatch)) == 2


def test_filling_a_bank_takes_its_part_of_the_time(monkeypatch):
    # 3 iterations and the first one with a step take 12.5 s, and are iterations of the run too.
    assert iterations_in(100.0, Timed(monkeypatch, filling=3)) == 3 + 175


def test_a_bank_that_takes_longer_to_fill_is_refused(monkeypatch):
    with pytest.raises(UsageError, match="takes more than the 10 s"):
        iterations_in(10.0, Timed(monkeypatch, filling=5))


def test_filling_may_be_given_a_share_of_the_time(monkeypatch):
    assert iterations_in(100.0, Timed(monkeypatch, filling=3), filling_share=0.5) == 3 + 175
    with pytest.raises(UsageError, match="takes more than 10% of the 100 s"):
        iterations_in(100.0, Timed(monkeypatch, filling=3), filling_share=0.1)


def test_a_bank_that_is_filled_within_the_first_iteration_takes_its_time_too(monkeypatch):
    timed = Timed(monkeypatch)
    step = timed.step

    def first():
        timed.now += 30.0
        timed.step = step
        step()

    timed.step = first
    assert iterations_in(100.0, timed) == 140
    timed.step = first
    with pytest.raises(UsageError, match="takes more than the 20 s"):
        iterations_in(20.0, timed)


def test_one_that_is_longer_than_what_is_watched_counts(monkeypatch):
    assert iterations_in(600.0, Timed(monkeypatch, each=50.0)) == 12


def test_more_is_run_before_where_a_graph_is_captured(monkeypatch):
    captured = Timed(monkeypatch, graph=True)
    iterations_in(10.0, captured)
    plain = Timed(monkeypatch)
    iterations_in(10.0, plain)
    assert captured.steps - plain.steps == 3


def test_a_method_without_a_students_step_has_nothing_to_wait_for(monkeypatch):
    trainer = Timed(monkeypatch, filling=10**6, each=0.5, to_fill=0.5)
    trainer.distiller.method.student_steps = 0
    assert iterations_in(100.0, trainer) == 200
