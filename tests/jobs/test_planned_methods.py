from types import SimpleNamespace

import pytest

from dfad_fast.jobs import distill
from dfad_fast.jobs.pace import FillingTakesTooLongError
from dfad_fast.jobs.planned_methods import Plan, planned_methods
from dfad_fast.jobs.settings import DistillSettings
from dfad_fast.models import create_network


def planned(image_shape=(3, 28, 28), network="resnet8-w16", classes=10, on_cpu=True, given=(), **settings):
    teacher = create_network(network, image_shape, classes)
    student = create_network(settings.setdefault("student", network), image_shape, classes)
    pair = SimpleNamespace(teacher=teacher, student=student, image_shape=image_shape, classes=classes)
    return planned_methods(DistillSettings(**settings), pair, on_cpu, given)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"minutes": 2.0}, ["procedural"]),
        ({"minutes": 5.0}, ["nayer", "procedural"]),
        ({"minutes": 2.0, "on_cpu": False}, ["nayer", "procedural"]),
        ({"minutes": None}, []),
        ({"minutes": 10.0, "method": "dfad"}, []),
        ({"minutes": 10.0, "image_shape": (1, 8, 8)}, []),
        ({"minutes": 10.0, "network": "lenet5"}, ["procedural-inversion", "procedural"]),
        ({"minutes": 10.0, "classes": 1}, []),
        ({"minutes": 10.0, "source": "fresh"}, []),
        ({"minutes": 10.0, "student_terms": "l1"}, []),
        ({"minutes": 10.0, "recipe": "adam"}, []),
    ],
)
def test_auto_follows_the_time_the_teacher_and_what_is_given(changes, expected):
    assert [plan.method for plan in planned(**changes)] == expected


@pytest.mark.parametrize(
    ("changes", "given", "expected"),
    [
        ({"minutes": 2.0}, (), [{"batch_size": 64}]),
        ({"minutes": 2.0}, ("batch_size",), [{}]),
        ({"minutes": 2.0, "batch_per_process": 128}, (), [{}]),
        ({"minutes": 5.0}, (), [{}, {}]),
        ({"minutes": 2.0, "on_cpu": False}, (), [{}, {}]),
    ],
)
def test_short_runs_take_small_batches_unless_their_size_is_given(changes, given, expected):
    assert [plan.others for plan in planned(given=given, **changes)] == expected


@pytest.mark.parametrize(
    ("teacher", "student", "given", "starts"),
    [
        ("lenet5", "lenet5-half", (), True),
        ("lenet5", "lenet5-half", ("student_init",), False),
        ("lenet5", "resnet8-w16", (), False),
        ("lenet5-half", "lenet5", (), False),
    ],
)
def test_a_new_student_of_the_same_class_starts_from_a_teacher_without_batch_norm(
    teacher, student, given, starts
):
    plans = planned(network=teacher, student=student, given=given, minutes=2.0)
    assert [plan.others.get("student_init") == "teacher" for plan in plans] == [starts, starts]


@pytest.fixture
def timed(monkeypatch):
    """The methods timed, where some of them take too long to fill their bank."""
    tried = []

    def find(too_long):
        def find_pace(seconds, trainer_in, filling_share):
            tried.append((trainer_in("folder"), filling_share))
            if tried[-1][0] in too_long:
                raise FillingTakesTooLongError("too long")
            return "pace"

        monkeypatch.setattr(distill, "find_pace", find_pace)
        return tried

    return find


PLANS = [Plan("nayer", "time enough", 0.5), Plan("procedural", "too little time")]


def test_the_first_that_fills_its_bank_in_time_is_taken(timed):
    tried = timed(too_long=[])
    assert distill._timed(60.0, PLANS, lambda method, out: method) == (PLANS[0], "pace")
    assert tried == [("nayer", 0.5)]


def test_the_next_one_is_taken_where_a_bank_takes_too_long_to_fill(timed, caplog):
    caplog.set_level("INFO")
    tried = timed(too_long=["nayer"])
    assert distill._timed(60.0, PLANS, lambda method, out: method) == (PLANS[1], "pace")
    assert tried == [("nayer", 0.5), ("procedural", 1.0)]
    assert "method nayer is not used: too long" in caplog.text


def test_the_batch_size_of_a_plan_is_the_one_that_is_timed(timed):
    timed(too_long=[])
    sizes = []
    plan = Plan("procedural", "too little time", others={"batch_size": 64})
    distill._timed(60.0, [plan], lambda batch_size, **_: sizes.append(batch_size))
    assert sizes == [64]


def test_an_error_says_that_none_is_quick_enough(timed):
    timed(too_long=["nayer", "procedural"])
    with pytest.raises(FillingTakesTooLongError):
        distill._timed(60.0, PLANS, lambda method, out: method)
