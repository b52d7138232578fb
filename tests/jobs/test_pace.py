from types import SimpleNamespace

import pytest
import torch

from dfad_fast.errors import UsageError
from dfad_fast.jobs import pace
from dfad_fast.jobs.pace import iterations_in


class Timed:
    """Iterations that take so many seconds on a clock of their own, the first ones to fill a bank."""

    def __init__(
        self,
        monkeypatch,
        filling=0,
        each=0.5,
        to_fill=4.0,
        first=0.0,
        begin=0.0,
        sealing=0.0,
        graph=False,
        compiled=False,
        tells=True,
    ):
        self.now, self.steps, self.left = 0.0, 0, filling
        self.each, self.to_fill, self.first, self.begin = each, to_fill, first, begin
        self.sealing, self.tells = sealing, tells
        self.distiller = SimpleNamespace(
            device=torch.device("cpu"),
            levers=SimpleNamespace(graph=graph, compile=compiled),
            method=SimpleNamespace(student_steps=5),
            source=self,
            last=None,
        )
        monkeypatch.setattr(pace.time, "perf_counter", lambda: self.now)

    @property
    def waiting(self):
        return self.left if self.tells else 0

    def stop_waiting(self):
        if self.tells:
            self.left = 0
        self.now += self.sealing

    def step(self):
        filling = self.left > 0
        self.now += self.to_fill if filling else self.each
        if not self.steps:
            self.now += self.first
        if not filling:
            self.now += self.begin
            self.begin = 0.0
        self.left -= filling
        self.distiller.last = SimpleNamespace(answers=None if filling else ())
        self.steps += 1


def test_a_length_of_time_in_iterations(monkeypatch):
    assert iterations_in(100.0, Timed(monkeypatch)) == 200
    assert iterations_in(0.1, Timed(monkeypatch)) == 2


def test_filling_a_bank_takes_its_part_of_the_time(monkeypatch):
    assert iterations_in(100.0, Timed(monkeypatch, filling=3)) == 3 + 176


def test_a_long_filling_is_estimated_from_its_first_iterations(monkeypatch):
    timed = Timed(monkeypatch, filling=20, first=3.0)
    assert iterations_in(200.0, timed) == 20 + 2 * (200 - 83)  # 3 s more in the first one only
    assert timed.now < 25


def test_what_a_bank_does_once_for_many_images_is_a_part_of_filling(monkeypatch):
    timed = Timed(monkeypatch, filling=20, sealing=2.0)
    # 3 iterations took 4, 4 and 4 s, and sealing 2: 10 s for two, and 17 remain.
    assert iterations_in(200.0, timed) == 20 + 2 * (200 - 14 - 17 * 5)


def test_a_source_that_cannot_tell_is_waited_for(monkeypatch):
    assert iterations_in(100.0, Timed(monkeypatch, filling=5, tells=False)) == 5 + 160
    timed = Timed(monkeypatch, filling=10**6, tells=False)
    with pytest.raises(UsageError, match="takes more than 50% of the 100 s"):
        iterations_in(100.0, timed, filling_share=0.5)
    assert timed.now < 60


@pytest.mark.parametrize("filling", [0, 3])
def test_what_the_first_iteration_with_the_student_takes_longer_is_subtracted(monkeypatch, filling):
    timed = Timed(monkeypatch, filling=filling, begin=20.0, compiled=True)
    assert iterations_in(100.0, timed) == filling + 2 * (100 - 20 - 4 * filling)


def test_two_iterations_tell_more_than_the_first_one(monkeypatch):
    timed = Timed(monkeypatch, filling=3, each=8.0, begin=10.0)
    assert iterations_in(102.0, timed) == 3 + 10
    assert timed.steps == 3 + 2


def test_a_slow_iteration_is_timed_once(monkeypatch):
    timed = Timed(monkeypatch, filling=20, each=50.0, to_fill=10.0)
    assert iterations_in(1000.0, timed) == 20 + 16
    assert timed.now == 2 * 10 + 50


def test_one_that_compiles_is_not(monkeypatch):
    timed = Timed(monkeypatch, each=50.0, compiled=True)
    assert iterations_in(600.0, timed) == 12
    assert timed.steps == 4


def test_a_bank_that_takes_longer_to_fill_is_refused_early(monkeypatch):
    timed = Timed(monkeypatch, filling=500)
    with pytest.raises(UsageError, match="takes more than the 1000 s"):
        iterations_in(1000.0, timed)
    assert timed.now < 20


def test_filling_may_be_given_a_share_of_the_time(monkeypatch):
    assert iterations_in(100.0, Timed(monkeypatch, filling=3), filling_share=0.5) == 3 + 176
    with pytest.raises(UsageError, match="takes more than 10% of the 100 s"):
        iterations_in(100.0, Timed(monkeypatch, filling=3), filling_share=0.1)


def test_a_bank_that_is_filled_within_the_first_iteration_takes_its_time_too(monkeypatch):
    assert iterations_in(100.0, Timed(monkeypatch, first=30.0)) == 140
    with pytest.raises(UsageError, match="takes more than the 20 s"):
        iterations_in(20.0, Timed(monkeypatch, first=30.0))


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
