import pytest
import torch
from torch import nn

from dfad_fast.errors import UsageError
from dfad_fast.training.evaluation import TestSet, accuracy


class Constant(nn.Module):
    """Answers a class for every image: the rounded value of its first pixel plus ``shift``."""

    def __init__(self, shift: int):
        super().__init__()
        self.shift = nn.Parameter(torch.tensor(float(shift)))

    def forward(self, images):
        classes = (images.flatten(1)[:, 0] + self.shift).round().long() % 4
        return nn.functional.one_hot(classes, 4).float()


def batches():
    labels = torch.arange(8) % 4
    images = labels.float().reshape(8, 1, 1, 1).clone()
    images[0] = 1  # one image that a network without shift gets wrong
    return [(images[:5], labels[:5]), (images[5:], labels[5:])]


def test_accuracy_counts_images_not_batches():
    assert accuracy(Constant(0), batches()) == 7 / 8
    assert accuracy(Constant(1), batches()) == 0


def test_scores_of_student_and_teacher():
    scores = TestSet(Constant(0), batches()).scores(Constant(0))
    assert (scores.teacher_accuracy, scores.student_accuracy, scores.agreement) == (7 / 8, 7 / 8, 1)
    scores = TestSet(Constant(0), batches()).scores(Constant(1))
    assert (scores.teacher_accuracy, scores.student_accuracy, scores.agreement) == (7 / 8, 0, 0)


def test_a_one_shot_iterator_can_be_evaluated_on_more_than_once():
    test_set = TestSet(Constant(0), iter(batches()))
    assert test_set.scores(Constant(0)) == test_set.scores(Constant(0))


def test_a_loader_that_shuffles_is_refused():
    class Shuffles:
        def __init__(self):
            self.turn = 0

        def __iter__(self):
            self.turn += 1
            return iter(batches() if self.turn == 1 else batches()[::-1])

    test_set = TestSet(Constant(0), Shuffles())
    with pytest.raises(UsageError, match="shuffle=False"):
        test_set.scores(Constant(0))


def test_nothing_to_evaluate_on_is_refused():
    for evaluate in (lambda: accuracy(Constant(0), []), lambda: TestSet(Constant(0), [])):
        with pytest.raises(UsageError, match="the loader gave no batch"):
            evaluate()
