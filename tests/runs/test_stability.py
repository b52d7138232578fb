import statistics

import pytest
import torch
from torch import nn

from dfad_fast import DFADTrainer
from dfad_fast.engine.evaluation import TestScores
from dfad_fast.errors import DFADFastWarning
from dfad_fast.runs import stability
from tests.training.test_trainer import SHAPE, SMALL

STEADY = {
    "largest_class_generated": 0.2,
    "variety_generated": 0.5,
    "largest_class_student": 0.2,
    "largest_class_teacher": 0.2,
    "agreement_batch": 0.9,
    "agreement": 0.9,
}


def history_of(*changes):
    """A record of metrics without an evaluation between each two of these."""
    records = []
    for number, change in enumerate(changes, 1):
        records += [{"iteration": 20 * number - 10}, {"iteration": 20 * number, **STEADY, **change}]
    return records


def told(history):
    """All warnings of a run, by the iteration that they come at."""
    warned = {}
    for end in range(1, len(history) + 1):
        for text in stability.new_collapses(history[:end]):
            warned.setdefault(history[end - 1]["iteration"], []).append(text)
    return warned


ONE_CLASS = {"largest_class_generated": 0.97}
SIGNS = [
    (ONE_CLASS, "the teacher saw one class"),
    ({"variety_generated": 0.01, "agreement": 1.0}, "nearly all alike"),
    ({"largest_class_student": 1.0}, "the student gave one answer"),
]


@pytest.mark.parametrize(("sign", "what"), SIGNS)
def test_a_collapse_is_told_once_while_it_lasts_and_again_when_it_comes_back(sign, what):
    history = history_of({}, sign, sign, sign, {}, sign, sign)
    warned = told(history)
    assert sorted(warned) == [60, 140]
    assert all(len(texts) == 1 and what in texts[0] for texts in warned.values())
    assert "iterations 40 and 60" in warned[60][0]
    first, second = stability.collapses(history)
    assert first.startswith(f"from iteration 40 to 80 {what}") or what in first
    assert second.startswith("from iteration 120 to 140 ")


@pytest.mark.parametrize(("sign", "what"), SIGNS)
def test_one_evaluation_alone_is_no_collapse(sign, what):
    history = history_of(sign, {}, sign, {}, sign)
    assert told(history) == {}
    assert stability.collapses(history) == []


def test_a_student_that_is_right_may_give_one_answer():
    """Somebody's test images may be of one class."""
    same = {"largest_class_student": 1.0, "largest_class_teacher": 1.0}
    assert told(history_of(same, same, same)) == {}


def test_a_student_that_has_not_learned_yet_may_give_one_answer():
    """While a bank is filled."""
    history = [
        {name: value for name, value in record.items() if name != "agreement_batch"}
        for record in history_of(*3 * [{"largest_class_student": 1.0}])
    ]
    assert told(history) == {}


def test_records_of_older_versions_show_nothing():
    older = [{"iteration": i, "agreement_generated": 0.1} for i in range(1, 9)]
    assert (told(older), stability.collapses(older)) == ({}, [])


def test_a_last_student_that_is_worse_than_the_best():
    history = history_of(*({"student_accuracy": a} for a in (0.5, 0.9, 0.88, 0.8)))

    def told(accuracy, images, history=history):
        return stability.fallen_behind(history, TestScores(1.0, accuracy, accuracy, 0.2, 0.2, images))

    (line,) = told(0.8, 1000)
    assert line.startswith("the last student is 10.0 points behind that of iteration 40 on the test images: ")
    assert told(0.89, 10**6) == []
    assert told(0.8, 20) == []  # two images
    assert told(0.1, 1000, history[:4]) == []


def test_the_deviation_is_that_of_the_last_third():
    history = history_of(*({"student_accuracy": a} for a in (0.1, 0.2, 0.3, 0.4, 0.8, 0.9)))
    assert stability.deviation(history, "student_accuracy") == statistics.stdev([0.8, 0.9])
    assert stability.deviation(history[:2], "student_accuracy") is None
    assert stability.deviation([], "student_accuracy") is None
    assert stability.deviation(history, "unknown") is None


class _OneImage(nn.Module):
    """A generator that has collapsed."""

    def __init__(self):
        super().__init__()
        self.image = nn.Parameter(torch.randn(1, *SHAPE))

    def forward(self, noise):
        return self.image.expand(len(noise), -1, -1, -1) + 0 * noise.sum()


def test_a_run_tells_of_its_collapse_while_it_happens_and_at_its_end(pair, tmp_path):
    teacher, student = pair
    trainer = DFADTrainer(teacher, student, SHAPE, "dfad", _OneImage(), out=tmp_path, **SMALL)
    with pytest.warns(DFADFastWarning) as caught:
        summary = trainer.fit(4, log_every=1, evaluate_every=1)
    during = [str(w.message) for w in caught if "training continues" in str(w.message)]
    assert len(during) == 2  # one image is of one class
    assert all("at iterations 1 and 2" in text for text in during)
    assert sum("from iteration 1 to 4" in notice for notice in summary["notices"]) == 2
    assert (
        "from iteration 1 to 4 the held-out generated images were nearly all alike"
        in (tmp_path / "report.html").read_text()
    )
