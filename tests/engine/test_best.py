import copy
import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from dfad_fast import DFADTrainer
from dfad_fast.engine.best import BY_ACCURACY, BY_AGREEMENT, BestStudent
from dfad_fast.engine.evaluation import TestScores, TestSet
from dfad_fast.errors import UsageError
from tests.reporting.test_loggers import KillAt, Killed
from tests.training.test_trainer import SHAPE, SMALL, same, weights

EVERY = {"log_every": 1, "evaluate_every": 1}


class Signs(nn.Module):
    """Two classes: whether each image's mean, times ``weight``, is positive. Eval mode or not."""

    def __init__(self, weight=1.0, bias=0.0):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.tensor(weight)), nn.Parameter(torch.tensor(bias))

    def forward(self, images):
        logit = self.weight * images.flatten(1).mean(1) + self.bias
        return torch.stack([-logit, logit], 1)


def images_of(*means):
    return torch.tensor(means).view(-1, 1, 1, 1).expand(-1, 1, 2, 2)


def meet(best, student, iteration, images, accuracy=None):
    """With a teacher that answers the sign of the mean."""
    with torch.no_grad():
        best.meet_on_generated_images(student, iteration, images, Signs()(images), student(images), accuracy)


def told(best):
    return best.describe()["iteration"], best.describe()["value"]


def test_by_accuracy_the_highest_and_of_equal_ones_the_later_with_more_agreement():
    best = BestStudent()
    assert best.describe() is None
    for iteration, accuracy, agreement in (
        (1, 0.5, 0.9),
        (2, 0.8, 0.7),
        (3, 0.8, 0.6),
        (4, 0.8, 0.7),
        (5, 0.7, 1),
    ):
        student = Signs(float(iteration))
        best.meet_on_test_images(student, iteration, TestScores(1.0, accuracy, agreement, 0.5, 0.3, 100))
    assert best.describe() == {"iteration": 4, "by": BY_ACCURACY, "value": 0.8, "accuracy": 0.8}
    assert best.weights["weight"] == 4


def test_by_agreement_both_are_seen_on_the_same_images():
    """A student that is right on the newest images alone loses to one that is on those of before too."""
    best = BestStudent()
    forgets = Signs(0.0, -1.0)  # answers 0 to everything
    meet(best, Signs(1.0, 0.1), 1, images_of(1.0, -1.0))
    assert told(best) == (1, 1.0)
    meet(best, forgets, 2, images_of(-2.0, -3.0))
    assert told(best) == (1, 1.0)
    meet(best, Signs(1.0, 0.05), 3, images_of(-2.0, -3.0))
    assert told(best) == (3, 1.0)  # as often right, and nearer to the teacher
    assert best.describe()["by"] == BY_AGREEMENT


def test_what_was_best_on_its_own_images_need_not_be_on_later_ones():
    best = BestStudent()
    meet(best, Signs(0.0, 1.0), 1, images_of(1.0, 2.0))  # both in one class
    assert told(best) == (1, 1.0)
    later = Signs(0.3, 0.0)
    before = weights(later)
    meet(best, later, 2, images_of(1.0, -1.0))
    assert told(best) == (2, 1.0)
    assert same(weights(later), before)


def test_a_class_of_few_images_weighs_as_much_as_one_of_many():
    best = BestStudent()
    images = images_of(-0.5, *(0.1 * i for i in range(1, 11)))
    meet(best, Signs(1.0, 0.7), 1, images)  # wrong in the only one of its class
    assert told(best) == (1, 0.5)
    meet(best, Signs(1.0, -0.35), 2, images)  # wrong in 3 of 10
    assert told(best) == (2, pytest.approx(0.85))


def test_accuracy_comes_before_agreement():
    best = BestStudent()
    meet(best, Signs(), 1, images_of(1.0, -1.0))
    best.meet_on_test_images(Signs(2.0), 2, TestScores(1.0, 0.3, 0.3, 0.5, 0.3, 100))
    assert told(best) == (2, 0.3)
    meet(best, Signs(), 3, images_of(1.0, -1.0))
    assert told(best) == (2, 0.3)


def test_where_agreement_is_asked_for_accuracy_is_told_and_not_chosen_by():
    best = BestStudent("agreement")
    meet(best, Signs(1.0, 0.1), 1, images_of(1.0, -1.0), accuracy=0.4)
    best.meet_on_test_images(Signs(2.0), 2, TestScores(1.0, 0.9, 0.9, 0.5, 0.3, 100))
    meet(best, Signs(0.0, -1.0), 2, images_of(1.0, -1.0), accuracy=0.9)
    assert best.describe() == {"iteration": 1, "by": BY_AGREEMENT, "value": 1.0, "accuracy": 0.4}
    again = BestStudent("agreement")
    again.load_state_dict(best.state_dict(), torch.device("cpu"))
    assert again.describe() == best.describe()
    by_labels = BestStudent()
    by_labels.meet_on_test_images(Signs(2.0), 3, TestScores(1.0, 0.9, 0.9, 0.5, 0.3, 100))
    anew = BestStudent("agreement")
    anew.load_state_dict(by_labels.state_dict(), torch.device("cpu"))
    meet(anew, Signs(), 4, images_of(1.0, -1.0))
    assert told(anew) == (4, 1.0)
    older = {name: value for name, value in best.state_dict().items() if name != "accuracy"}
    again.load_state_dict(older, torch.device("cpu"))
    assert again.describe()["accuracy"] is None


@pytest.mark.parametrize(("room", "images", "moments"), [(0.5, 1, 0), (3.0, 1, 3), (16.0, 2, 5)])
def test_large_images_are_kept_few(monkeypatch, room, images, moments):
    size = images_of(1.0).nbytes
    monkeypatch.setattr("dfad_fast.engine.best._MOST_BYTES", int(room * size))
    best = BestStudent()
    for moment in range(40):
        meet(best, Signs(), moment, images_of(1.0, -1.0, 2.0))
    kept = best.state_dict()["moments"]
    assert len(kept) == moments
    assert all(len(m["images"]) == images for m in kept)
    assert told(best) == (39, 1.0)


def test_few_moments_are_kept_spread_over_the_run():
    best = BestStudent()
    for moment in range(40):
        meet(best, Signs(), moment, images_of(float(moment), -1.0))
    kept = [m["images"][0].mean().item() for m in best.state_dict()["moments"]]
    assert kept == [0, 8, 16, 24, 32]


@pytest.mark.parametrize(("tested", "by"), [(True, "auto"), (True, "agreement"), (False, "auto")])
def test_the_best_student_of_a_run_is_kept_beside_the_last(pair, tmp_path, tested, by):
    teacher, student = pair
    tests = [(torch.randn(32, *SHAPE), torch.randint(4, (32,)))] if tested else None
    trainer = DFADTrainer(teacher, student, SHAPE, "dfad", out=tmp_path, best_by=by, **SMALL)
    summary = trainer.fit(6, tests, **EVERY)
    best = summary["best_student"]
    saved = load_file(tmp_path / "student_best.safetensors")
    assert same(saved, trainer.best_student)
    by_accuracy = tested and by == "auto"
    assert best["by"] == (BY_ACCURACY if by_accuracy else BY_AGREEMENT)
    with safe_open(tmp_path / "student_best.safetensors", "pt") as file:
        assert file.metadata()["iteration"] == str(best["iteration"])
    again = copy.deepcopy(student)
    again.load_state_dict(saved)
    if tested:
        recorded = {r["iteration"]: r["student_accuracy"] for r in trainer.history}
        assert summary["student_accuracy_best"] == max(recorded.values())
        assert recorded[best["iteration"]] == best["accuracy"]
        assert TestSet(teacher, tests).scores(again).student_accuracy == best["accuracy"]
    if by_accuracy:
        assert best["value"] == best["accuracy"] == summary["student_accuracy_best"]
    else:
        assert 0 <= best["value"] <= 1
    assert f"iteration {best['iteration']}, by {best['by']}" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("tested", [True, False])
def test_a_resumed_run_keeps_the_best_student_of_one_that_was_never_stopped(pair, tmp_path, tested):
    teacher, student = pair
    tests = [(torch.randn(32, *SHAPE), torch.randint(4, (32,)))] if tested else None

    def make(folder, **more):
        own = copy.deepcopy(student)
        return DFADTrainer(teacher, own, SHAPE, "dfad", out=folder, checkpoint_seconds=0.0, **SMALL, **more)

    whole = make(tmp_path / "whole")
    summary = whole.fit(8, tests, **EVERY)
    with pytest.raises(Killed):
        make(tmp_path / "cut").fit(8, tests, progress=KillAt(4), **EVERY)
    resumed = make(tmp_path / "cut", resume=True)
    assert resumed.best_student is not None
    assert resumed.fit(8 - resumed.iteration, tests, **EVERY)["best_student"] == summary["best_student"]
    assert same(resumed.best_student, whole.best_student)
    assert same(weights(resumed.networks.student), weights(whole.networks.student))
    for name in ("metrics.jsonl", "student_best.safetensors"):
        one, other = ((tmp_path / run / name).read_bytes() for run in ("whole", "cut"))
        if name == "metrics.jsonl":
            one, other = (
                [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in x.splitlines()]
                for x in (one, other)
            )
        assert one == other


def test_what_the_best_student_is_chosen_by(pair):
    teacher, student = pair
    with pytest.raises(UsageError, match="unknown best_by 'accurracy': expected auto, accuracy, agreement"):
        DFADTrainer(teacher, student, SHAPE, "dfad", best_by="accurracy", **SMALL)
    trainer = DFADTrainer(teacher, student, SHAPE, "dfad", best_by="accuracy", **SMALL)
    with pytest.raises(UsageError, match="best_by accuracy needs labeled test images"):
        trainer.fit(2)
    assert trainer.iteration == 0


def test_evaluations_on_generated_images_leave_the_run_alone(pair):
    """Networks of the user's draw from torch's global generator, and the generator has running statistics."""
    teacher, student = pair
    generator = nn.Sequential(
        nn.Linear(8, 64), nn.BatchNorm1d(64), nn.Dropout(0.5), nn.Linear(64, 64), nn.Unflatten(1, SHAPE)
    )

    def run(**every):
        own = copy.deepcopy((nn.Sequential(student, nn.Dropout(0.2)), generator))
        torch.manual_seed(3)
        trainer = DFADTrainer(teacher, own[0], SHAPE, "dfad", own[1], **SMALL)
        trainer.fit(6, **every)
        return weights(own[0]), weights(own[1]), trainer

    often, never = run(log_every=1, evaluate_every=1), run(log_every=6, evaluate_every=6)
    assert len([r for r in often[2].history if "agreement_generated" in r]) == 6
    assert len([r for r in never[2].history if "agreement_generated" in r]) == 1
    assert same(often[0], never[0])
    assert same(often[1], never[1])
    for name in ("noise", "mixing"):
        a, b = (str(x[2].state_dict()[name]) for x in (often, never))
        assert a == b
