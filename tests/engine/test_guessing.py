"""Which teachers are said to guess."""

import warnings

import pytest
import torch
from torch import nn

from dfad_fast.engine.evaluation import TestSet
from dfad_fast.engine.guessing import warn_of_guesses
from dfad_fast.errors import DFADFastWarning

MESSAGE = "the teacher classifies .* correctly, no more than by chance: check that they are normalized"
LABELS = torch.arange(400) % 10


@pytest.mark.parametrize(
    ("answers", "labels"),
    [
        (torch.full((400,), 3), LABELS),
        ((LABELS + 1) % 10, LABELS),
        (torch.arange(400) // 40, LABELS),
        (torch.zeros(400, dtype=torch.int64), (torch.arange(400) % 5 == 0).long()),  # right in 80 %
    ],
    ids=["one class", "labels off by one", "unrelated", "always the most frequent class"],
)
def test_a_guessing_teacher_is_noticed(answers, labels):
    with pytest.warns(DFADFastWarning, match=MESSAGE):
        warn_of_guesses(answers, labels)


@pytest.mark.parametrize(
    ("answers", "labels"),
    [
        (LABELS, LABELS),
        (torch.where(torch.arange(400) % 4 == 0, LABELS, 3), LABELS),
        (torch.full((400,), 3), torch.full((400,), 3)),
        (torch.full((99,), 3), LABELS[:99]),
    ],
    ids=["right", "right in some", "one label", "too few to judge"],
)
def test_others_are_not(answers, labels):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_guesses(answers, labels)


def test_the_images_of_a_run_are_judged_once_and_by_their_preparation():
    images = torch.randn(200, 1, 2, 2)
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(4, 5, bias=False))
    labels = teacher(images).argmax(1)
    wrong = images.roll(1, dims=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TestSet(teacher, [(images[:100], labels[:100]), (images[100:], labels[100:])])
    with pytest.warns(DFADFastWarning, match=MESSAGE) as told:
        TestSet(teacher, [(wrong[:100], labels[:100]), (wrong[100:], labels[100:])])
    assert len(told) == 1
