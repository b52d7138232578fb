import io

import pytest

from dfad_fast.reporting import progress as reporting
from dfad_fast.reporting.console import Console
from dfad_fast.reporting.progress import show_progress


class Clock:
    """The progress's clock, which the test moves."""

    now = 1000.0


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(reporting.time, "monotonic", lambda: clock.now)
    return clock


def advance_with_a_wait(progress, clock, waiting, iterations):
    """Iterations of 6 seconds in which the student waits, then of 60; yields after each."""
    for iteration in range(1, iterations + 1):
        clock.now += 6.0 if iteration <= waiting else 60.0
        progress.advance(iteration, max(0, waiting - iteration))
        yield


def test_redirected_there_is_a_line_at_once_and_one_every_few_seconds(clock):
    out = io.StringIO()
    with show_progress(Console(file=out, width=40), 10_000, 8) as progress:
        assert out.getvalue() == "10,000 iterations of 8 images\n"
        for iteration in range(1, 14):
            clock.now += 1.0
            if iteration == 4:
                progress.log({"iteration": 4, "seconds": 4.0, "agreement_batch": 0.5, "student/l1": 2.0})
            progress.advance(iteration)
        clock.now += 3600.0
        progress.advance(10_000)
    assert out.getvalue().splitlines()[1:] == [
        "5/10000  0:05 min  8 img/s, 2:46 h left  agreement 50.0 %  student/l1 2",
        "10/10000  0:10 min  8 img/s, 2:46 h left  agreement 50.0 %  student/l1 2",
        "10000/10000  1:00 h  22 img/s, 0:00 min left  agreement 50.0 %  student/l1 2",
    ]


def test_while_the_student_waits_the_end_is_not_predicted_from_quicker_iterations(clock):
    out = io.StringIO()
    with show_progress(Console(file=out), 100, 0) as progress:
        for _ in advance_with_a_wait(progress, clock, waiting=5, iterations=9):
            pass
    assert out.getvalue().splitlines()[1:] == [
        "1/100  0:06 min",
        "2/100  0:12 min  6.0 s/it, 0:18 min until the student learns",
        "3/100  0:18 min  6.0 s/it, 0:12 min until the student learns",
        "4/100  0:24 min  6.0 s/it, 0:06 min until the student learns",
        "5/100  0:30 min",
        "6/100  1:30 min  60.0 s/it, 1:34 h left",
        "7/100  2:30 min  60.0 s/it, 1:33 h left",
        "8/100  3:30 min  60.0 s/it, 1:32 h left",
        "9/100  4:30 min  60.0 s/it, 1:31 h left",
    ]


def test_a_bar_predicts_the_end_in_the_same_way(clock):
    told = []
    with show_progress(Console(file=io.StringIO(), force_terminal=True), 100, 0) as progress:
        for _ in advance_with_a_wait(progress, clock, waiting=3, iterations=7):
            told.append(progress._bar.tasks[0].fields["speed"])
    assert told == [
        "",
        "6.0 s/it, 0:06 min until the student learns",
        "",
        "60.0 s/it, 1:36 h left",
        "60.0 s/it, 1:35 h left",
        "60.0 s/it, 1:34 h left",
        "60.0 s/it, 1:33 h left",
    ]


def test_a_run_of_one_iteration_is_no_plural():
    out = io.StringIO()
    with show_progress(Console(file=out), 1, 1) as progress:
        progress.advance(1)
    assert out.getvalue().splitlines() == ["1 iteration of 1 image", "1/1  0:00 min"]


def test_a_run_that_generates_nothing_goes_in_iterations(clock):
    out = io.StringIO()
    with show_progress(Console(file=out), 9, 0) as progress:
        for iteration in range(1, 10):
            clock.now += 2.0
            progress.advance(iteration)
    assert out.getvalue().splitlines()[0] == "9 iterations"
    assert "2.0 s/it, 0:00 min left" in out.getvalue().splitlines()[-1]
