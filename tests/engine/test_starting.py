"""A run's student starts as its settings say."""

import copy

import pytest
import torch
from torch import nn

from dfad_fast import DFADTrainer
from dfad_fast.distributed import collectives
from dfad_fast.engine import starting
from dfad_fast.engine.recipe import RECIPES, choose_recipe
from dfad_fast.engine.starting import start_student
from dfad_fast.errors import UsageError
from dfad_fast.sources import ImageForm
from tests.small_networks import make_net

SHAPE = (1, 8, 8)


def trainer(teacher, student, **settings):
    return DFADTrainer(teacher, student, SHAPE, method="dfad", batch_size=8, latent_dim=4, **settings)


def images(seed=0):
    source = torch.Generator().manual_seed(seed)
    return [torch.randn(16, *SHAPE, generator=source) for _ in range(3)]


@pytest.fixture
def pair():
    torch.manual_seed(0)
    return make_net(8), make_net(4)


def weights(network):
    return copy.deepcopy(network.state_dict())


def same(some, others):
    return all(torch.equal(value, others[name]) for name, value in some.items())


def test_auto_starts_an_untrained_student_from_the_teacher(pair):
    teacher, student = pair
    start = start_student("auto", teacher, student, images)
    assert (start.from_teacher, start.share, start.images) == (True, 1.0, 48)
    assert all(any(torch.equal(own, other) for other in teacher[0].weight) for own in student[0].weight)


@pytest.mark.parametrize(
    ("touch", "reason"),
    [
        (lambda student: student.train()(torch.randn(2, *SHAPE)), "since it was trained before"),
        (lambda student: student[1].running_mean.fill_(0.1), "since it was trained before"),
        (lambda student: student[1].running_var.fill_(2.0), "since it was trained before"),
    ],
)
def test_auto_leaves_a_trained_student_alone(pair, touch, reason):
    teacher, student = pair
    touch(student)
    before = weights(student)
    start = start_student("auto", teacher, student, images)
    assert (start.from_teacher, start.reason) == (False, reason)
    assert same(student.state_dict(), before)
    assert start_student("teacher", teacher, student, images).from_teacher


def test_without_batch_norm_only_teacher_starts_from_the_teacher():
    teacher, student = make_net(8, batch_norm=False), make_net(4, batch_norm=False)
    assert "no batch norm layers" in start_student("auto", teacher, student, images).reason
    assert start_student("teacher", teacher, student, images).share == 1.0


def test_random_changes_nothing_and_says_nothing(pair):
    before = weights(pair[1])
    start = start_student("random", *pair, images)
    assert same(pair[1].state_dict(), before)
    assert start.lines() == []


def test_what_cannot_be_is_refused(pair):
    teacher, _ = pair
    other = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 4))
    with pytest.raises(
        UsageError, match="cannot start from the teacher, because it is not of the teacher's family"
    ):
        start_student("teacher", teacher, other, images)
    with pytest.raises(UsageError, match="unknown student_init 'slices'"):
        start_student("slices", teacher, other, images)
    with pytest.raises(UsageError, match="student_init random, or a student of the teacher's family"):
        trainer(teacher, other, student_init="teacher")


def test_images_fix_the_start(pair):
    teacher, student = pair
    students = [copy.deepcopy(student) for _ in range(3)]
    for own, seed in zip(students, (0, 0, 1), strict=True):
        start_student("auto", teacher, own, lambda seed=seed: images(seed))
    first, again, other = (own.state_dict() for own in students)
    assert same(first, again)
    assert not same(first, other)


def test_batches_of_large_images_are_smaller(pair, monkeypatch):
    prober = trainer(*pair, student_init="random").distiller.prober
    form = ImageForm(SHAPE, None, None)
    assert [len(batch) for batch in starting.draw_images(prober, form, 0)] == [128] * 8
    monkeypatch.setattr(starting, "_PIXELS", 20 * 8 * 8)  # as images of 224 pixels are to 2^20
    assert [len(batch) for batch in starting.draw_images(prober, form, 0)] == [20] * 7


def test_the_recipe_fits_the_start(pair):
    assert trainer(*pair, student_init="auto").recipe == RECIPES["sgd-start"]
    assert choose_recipe("auto", pair[1]) == RECIPES["sgd"]
    assert choose_recipe("auto", pair[1], of_method="zskt", from_teacher=True) == RECIPES["zskt"]
    assert choose_recipe("auto", nn.Linear(2, 2), from_teacher=True) == RECIPES["adam"]
    other = choose_recipe("auto", pair[1], from_teacher=True, generator_lr=0.5)
    assert (other.student_lr, other.generator_lr) == (RECIPES["sgd-start"].student_lr, 0.5)
    assert choose_recipe("sgd", pair[1], student_lr=0.3).student_lr == 0.3


def test_a_run_tells_its_start_and_resumes_as_if_it_had_gone_on(pair, tmp_path):
    teacher, student = pair
    whole = copy.deepcopy(student)
    told = trainer(teacher, whole, student_init="auto").fit(4)["student_start"]
    assert (told["from_teacher"], told["share"], told["images"]) == (True, 1.0, 1024)
    begun = trainer(teacher, student, student_init="auto", out=tmp_path)
    begun.planned_iterations = 4
    begun.fit(2)
    # The very student, trained meanwhile.
    resumed = trainer(teacher, student, student_init="auto", out=tmp_path, resume=True)
    assert resumed.distiller.start.lines() == []
    assert resumed.fit(2)["student_start"] == told
    assert same(student.state_dict(), whole.state_dict())


def test_a_run_is_not_resumed_with_another_start(pair, tmp_path):
    trainer(*pair, out=tmp_path).fit(1)
    with pytest.raises(UsageError, match="student_init: random then, teacher now"):
        trainer(*pair, out=tmp_path, resume=True, student_init="teacher")
    assert not trainer(*pair, out=tmp_path, resume=True, student_init="auto").distiller.start.from_teacher


def test_a_trainer_that_cannot_be_leaves_the_student_as_it_was(pair, tmp_path):
    """So that a second try starts it from the teacher too."""
    trainer(*pair, out=tmp_path).fit(1)
    before = weights(pair[1])
    for wrong in ({"recipe": "sgdd"}, {"source": "folder(path='nowhere')"}, {"out": tmp_path}):
        with pytest.raises(UsageError):
            trainer(*pair, student_init="teacher", **wrong)
        assert same(pair[1].state_dict(), before)


def test_the_first_processs_student_says_whether_all_are_begun(pair, monkeypatch):
    monkeypatch.setattr(collectives, "on_first", lambda _: "since it was trained before")
    before = weights(pair[1])
    assert start_student("auto", *pair, images).reason == "since it was trained before"
    assert same(pair[1].state_dict(), before)


def test_the_default_device_changes_nothing(pair):
    teacher, student = pair
    students = copy.deepcopy(student), copy.deepcopy(student)
    start_student("auto", teacher, students[0], images)
    shown = images()
    with torch.device("meta"):
        assert start_student("auto", teacher, students[1], lambda: shown).from_teacher
    assert same(students[0].state_dict(), students[1].state_dict())
