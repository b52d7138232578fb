"""Runs with a black-box teacher: budget, counts, resume, and methods that need more than answers."""

import json

import pytest
import torch

from dfad_fast import BlackBoxTeacher, DFADFastWarning, DFADTrainer, RunError, UsageError
from dfad_fast.runs.budget import IterationStart
from dfad_fast.runs.layout import QUERIES
from dfad_fast.runs.lock import RunLock
from tests.small_networks import make_net

SHAPE, CLASSES, BATCH = (1, 8, 8), 4, 8
A_ROUND = (1 + 1 + 5) * BATCH  # of dfme: a generator's step asks twice an image


class Teacher:
    """A network as a callable, with the number of images that it was asked about."""

    def __init__(self, kind="probabilities", fails_after=None):
        torch.manual_seed(0)
        self._network, self._kind, self._fails_after = make_net(6).eval(), kind, fails_after
        self.asked = 0

    def __call__(self, images):
        if self._fails_after is not None and self.asked >= self._fails_after:
            raise OSError("the line is cut")
        self.asked += len(images)
        logits = self._network(images)
        return {"logits": logits, "labels": logits.argmax(1)}.get(self._kind, logits.softmax(1))


def student_of(seed=1):
    torch.manual_seed(seed)
    return make_net(4)


def trainer_of(teacher, kind="auto", budget=None, **settings):
    black_box = BlackBoxTeacher(teacher, CLASSES, kind, query_budget=budget)
    fixed = {"method": "dfme", "batch_size": BATCH, "latent_dim": 5, **settings}
    return DFADTrainer(black_box, student_of(), SHAPE, **fixed)


def test_a_new_trainer_has_asked_nothing():
    teacher = Teacher()
    trainer_of(teacher, method="maze", student_init="auto", speed="auto")
    assert teacher.asked == 0


def test_all_that_was_asked_is_counted(tmp_path):
    teacher = Teacher()
    trainer = trainer_of(teacher, out=tmp_path / "run")
    images, labels = torch.randn(6, *SHAPE), torch.randint(CLASSES, (6,))
    summary = trainer.fit(3, [(images, labels)], log_every=1)
    assert teacher.asked == summary["queries"] == 3 * A_ROUND
    assert [record["queries"] for record in trainer.history] == [A_ROUND, 2 * A_ROUND, 3 * A_ROUND]
    assert summary["teacher_answers"] == "probabilities"
    assert summary["teacher_parameters"] is summary["teacher_accuracy"] is summary["agreement_final"] is None
    assert summary["student_accuracy_final"] is not None
    assert json.loads((tmp_path / "run" / "summary.json").read_text()) == summary


def test_a_run_ends_with_its_budget(tmp_path):
    teacher = Teacher()
    budget = 2 * A_ROUND + 3 * BATCH
    trainer = trainer_of(teacher, budget=budget, out=tmp_path / "run")
    with pytest.warns(
        DFADFastWarning, match=r"budget of 136 is used up.* ends after iteration 2 of 9, and its student"
    ):
        summary = trainer.fit(9)
    assert teacher.asked == summary["queries"] == budget
    assert summary["iterations"] == 2
    assert "the query budget of 136 is used up" in summary["notices"][0]
    assert (tmp_path / "run" / "student.safetensors").is_file()
    trainer.distiller.queries.budget = None
    assert trainer.fit(2)["notices"] == []


def test_a_resumed_run_ends_with_the_same_bits_and_asks_nothing_again(tmp_path):
    whole = trainer_of(Teacher(), method="maze")
    expected = whole.fit(4, log_every=1)
    first = Teacher()
    cut = trainer_of(first, method="maze", out=tmp_path / "run")
    cut.planned_iterations = 4
    cut.fit(2, log_every=1)
    cut.distiller.step()  # what no checkpoint knows, as of a run that is killed
    second = Teacher()
    resumed = trainer_of(second, method="maze", out=tmp_path / "run", resume=True)
    summary = resumed.fit(2, log_every=1)
    assert first.asked + second.asked == summary["queries"] == expected["queries"]
    assert [r["queries"] for r in resumed.history] == [r["queries"] for r in whole.history]
    for own, other in zip(
        resumed.networks.student.state_dict().values(),
        whole.networks.student.state_dict().values(),
        strict=True,
    ):
        torch.testing.assert_close(own, other, rtol=0, atol=0)


@pytest.mark.parametrize("log_every", [1, 4])
@pytest.mark.parametrize(
    ("budget", "whole"),
    [(BATCH, 0), (2 * A_ROUND + 3 * BATCH, 2)],
    ids=["of less than an iteration", "of two"],
)
def test_an_iteration_that_the_budget_ends_in_is_taken_whole_later(tmp_path, budget, whole, log_every):
    expected = trainer_of(Teacher())
    expected.fit(4)
    first, second = Teacher(), Teacher()
    with pytest.warns(DFADFastWarning, match=f"ends after iteration {whole} of 4"):
        summary = trainer_of(first, budget=budget, out=tmp_path / "run").fit(4, log_every=log_every)
    assert (summary["iterations"], summary["queries"]) == (whole, first.asked)
    resumed = trainer_of(second, out=tmp_path / "run", resume=True)
    resumed.fit(4 - resumed.iteration, log_every=log_every)
    assert first.asked + second.asked == 4 * A_ROUND
    assert [record["iteration"] for record in resumed.history] == sorted(
        {r["iteration"] for r in resumed.history}
    )
    own, other = (trainer.networks.student.state_dict() for trainer in (resumed, expected))
    assert all(torch.equal(own[name], other[name]) for name in other)


def test_an_iteration_that_takes_more_than_any_before_goes_back_to_the_last_record(monkeypatch):
    monkeypatch.setattr(IterationStart, "begin", lambda self: None)
    with pytest.warns(DFADFastWarning, match="ends after iteration 2 of 9"):
        summary = trainer_of(Teacher(), budget=4 * A_ROUND - 1).fit(9, log_every=2)
    assert (summary["iterations"], summary["queries"]) == (2, 4 * A_ROUND - BATCH)


def test_a_run_that_is_begun_again_asks_nothing_again(tmp_path):
    first = Teacher()
    trainer_of(first, out=tmp_path / "run").step()  # killed before its first checkpoint
    assert not list((tmp_path / "run").glob("*.pt"))
    second = Teacher()
    resumed = trainer_of(second, out=tmp_path / "run", resume=True)
    assert resumed.fit(2)["queries"] == first.asked + second.asked == 2 * A_ROUND


def test_another_run_in_the_folder_begins_a_journal_of_its_own(tmp_path):
    trainer_of(Teacher(), out=tmp_path / "run").fit(1)
    with pytest.raises(UsageError, match="holds another run"):
        trainer_of(Teacher(), out=tmp_path / "run")
    teacher = Teacher()
    summary = trainer_of(teacher, out=tmp_path / "run", overwrite=True).fit(1)
    assert summary["queries"] == teacher.asked == A_ROUND
    DFADTrainer(make_net(6), student_of(), SHAPE, batch_size=BATCH, out=tmp_path / "run", overwrite=True)
    assert not (tmp_path / "run" / QUERIES).exists()


def test_another_kind_of_answers_is_another_run(tmp_path):
    trainer_of(Teacher(), out=tmp_path / "run").fit(1)
    with pytest.raises(UsageError, match="black_box"):
        trainer_of(Teacher(), "probabilities", out=tmp_path / "run", resume=True)
    with pytest.raises(UsageError, match="are probabilities, expected logits: continue with answers='proba"):
        trainer_of(Teacher(), "logits", out=tmp_path / "run", resume=True, accept_changes=True)


def test_a_journal_that_tells_of_too_little_is_refused(tmp_path):
    trainer_of(Teacher(), out=tmp_path / "run").fit(2)
    journal = tmp_path / "run" / QUERIES
    lines = journal.read_bytes().splitlines(keepends=True)
    teacher = Teacher()
    for rest in (b"".join(lines[:-2]), None):
        journal.write_bytes(rest) if rest else journal.unlink()
        with pytest.raises(
            UsageError, match=rf"has sent {2 * A_ROUND} images .* lists \d+: restore the file"
        ):
            trainer_of(teacher, out=tmp_path / "run", resume=True, accept_changes=True)
    assert not journal.exists()
    journal.write_bytes(b"".join(lines))
    trainer_of(teacher, out=tmp_path / "run", resume=True)
    assert teacher.asked == 0


def test_the_journal_of_a_run_that_goes_on_is_left_alone(tmp_path):
    trainer_of(Teacher(), out=tmp_path / "run").fit(1)
    journal = tmp_path / "run" / QUERIES
    torn = journal.read_bytes() + b'{"sent": "a line that is being written'
    journal.write_bytes(torn)
    lock = RunLock(tmp_path / "run")
    lock.take()
    with pytest.raises(UsageError, match="is writing to"):
        trainer_of(Teacher(), out=tmp_path / "run", resume=True)
    assert journal.read_bytes() == torn
    lock.give_back()
    trainer_of(Teacher(), out=tmp_path / "run", resume=True)
    assert torn.startswith(journal.read_bytes())


def test_a_teacher_may_be_used_for_another_run_in_the_same_place(tmp_path):
    teacher = Teacher()
    black_box = BlackBoxTeacher(teacher, CLASSES)
    for more in ({}, {"overwrite": True}, {"resume": True}):
        settings = {"method": "dfme", "batch_size": BATCH, "latent_dim": 5, "out": tmp_path / "run", **more}
        assert DFADTrainer(black_box, student_of(), SHAPE, **settings).fit(1)["queries"] == teacher.asked
    # The second run has the first one's images, and other ones only once its student is another.
    assert teacher.asked == 2 * A_ROUND


def test_a_teacher_that_fails_leaves_the_last_good_state(tmp_path):
    trainer = trainer_of(Teacher(fails_after=A_ROUND), out=tmp_path / "run")
    with pytest.raises(RunError, match="the line is cut"):
        trainer.fit(5, log_every=1)
    resumed = trainer_of(Teacher(), out=tmp_path / "run", resume=True)
    assert resumed.iteration == 1
    assert resumed.fit(1)["queries"] == 2 * A_ROUND


@pytest.mark.parametrize("method", ["dfme", "maze", "auto"])
def test_hard_labels_are_learned_by_cross_entropy(method):
    trainer = trainer_of(Teacher("labels"), "labels", method=method)
    assert {"student/cross_entropy", "generator/cross_entropy"} <= set(trainer.step())
    assert trainer.fit(1)["teacher_answers"] == "labels"


def test_a_source_without_a_generator_works_with_the_methods_of_networks():
    trainer = trainer_of(Teacher(), method="dfad", source="procedural", student_terms="kl + virtual")
    assert torch.isfinite(trainer.step()["student/kl"])
    assert trainer.fit(1)["queries"] > 0


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"method": "dfad"}, "needs gradients through the teacher"),
        ({"method": "tv-inversion"}, "gradients through the teacher .its source inverted does"),
        ({"method": "dfkd"}, "gradients through the teacher .its source recorded does"),
        ({"method": "dfq"}, "needs the statistics of the teacher's batch norm layers"),
        ({"method": "fast-2"}, "needs the statistics"),
        ({"method": "dafl"}, "needs the teacher's features"),
        (
            {"student_terms": "l1 + boundary"},
            "the teacher is a black box, which gives answers but no features",
        ),
        ({"taps_teacher": ["0"]}, "the teacher is a black box"),
        ({"generator_terms": "-js"}, "choose l1, kl or cross_entropy"),
        ({"student_init": "teacher"}, "a black box shows no weights"),
        ({"best_by": "agreement"}, "best_by agreement would spend queries"),
        ({"source": "estimated(directions=0)"}, "directions must be at least 1"),
        ({"source": "estimated(epsilon=0)"}, "epsilon must be > 0"),
        ({"source": "replayed(estimated, steps=1)"}, "steps must be at least 2"),
    ],
)
def test_what_needs_more_than_answers_is_refused_before_anything_is_asked(settings, said):
    teacher = Teacher()
    with pytest.raises(UsageError, match=said) as caught:
        trainer_of(teacher, **settings)
    assert "\n" not in str(caught.value)
    assert teacher.asked == 0


def inside(teacher):
    return torch.nn.Sequential(teacher, torch.nn.Identity())


@pytest.mark.parametrize(
    ("around", "said"),
    [
        (inside, "the teacher is a module that contains a BlackBoxTeacher"),
        (
            lambda teacher: [make_net(6), inside(teacher)],
            "the teacher's member 1 is a module that contains a BlackBoxTeacher",
        ),
    ],
)
def test_a_black_box_inside_of_a_module_is_not_asked_in_secret(around, said):
    teacher = Teacher()
    with pytest.raises(UsageError, match=said):
        DFADTrainer(
            around(BlackBoxTeacher(teacher, CLASSES)), student_of(), SHAPE, method="dfme", batch_size=BATCH
        )
    assert teacher.asked == 0


def test_one_inside_of_a_wrapper_has_a_journal(tmp_path):
    black_box = BlackBoxTeacher(Teacher(), CLASSES)
    wrapped = torch.nn.DataParallel(black_box)
    DFADTrainer(wrapped, student_of(), SHAPE, method="dfme", batch_size=BATCH, out=tmp_path / "run")
    assert (tmp_path / "run" / QUERIES).is_file()


@pytest.mark.parametrize("student", [lambda box: box, inside])
def test_a_black_box_is_no_student(student):
    boxes = [BlackBoxTeacher(Teacher(), CLASSES) for _ in range(2)]
    with pytest.raises(
        UsageError, match=r"the student is a (black box|module that contains a BlackBoxTeacher)"
    ):
        DFADTrainer(boxes[0], student(boxes[1]), SHAPE, method="dfme", batch_size=BATCH)


def test_a_network_may_have_its_gradient_estimated_too():
    trainer = DFADTrainer(make_net(6), student_of(), SHAPE, method="maze", batch_size=BATCH)
    assert "queries" not in trainer.fit(1)
