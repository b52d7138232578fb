import math
import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dfad_fast import BlackBoxTeacher, Ensemble, UsageError
from dfad_fast.models.reading.check import count_classes
from tests.small_networks import make_net

SHAPE = (1, 8, 8)


class Fixed(nn.Module):
    """Answers every image with these logits, out of a dictionary where it is told to."""

    def __init__(self, *logits, named=False):
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))
        self.named = named

    def forward(self, images):
        answer = self.logits.expand(len(images), -1)
        return {"logits": answer} if self.named else answer


def test_logits_are_averaged_by_weight():
    ensemble = Ensemble([Fixed(1.0, 2.0), Fixed(5.0, -2.0, named=True)], weights=[3, 1])
    torch.testing.assert_close(ensemble(torch.zeros(2, 1)), torch.tensor([[2.0, 1.0]] * 2))
    assert ensemble.describe() == {"members": 2, "mean": "logits", "weights": [0.75, 0.25]}


def test_probabilities_are_averaged_and_answered_as_logarithms():
    sure, unsure = Fixed(math.log(3.0), 0.0), Fixed(0.0, 0.0)
    answer = Ensemble([sure, unsure], "probabilities")(torch.zeros(1, 1))
    torch.testing.assert_close(answer.exp(), torch.tensor([[0.625, 0.375]]))


def test_probabilities_of_sure_members_stay_finite():
    answer = Ensemble([Fixed(1e4, 0.0), Fixed(0.0, 1e4)], "probabilities")(torch.zeros(1, 1))
    torch.testing.assert_close(answer, torch.full((1, 2), math.log(0.5)))


def test_members_are_shared_and_unwrapped():
    member = make_net(4)
    ensemble = Ensemble([nn.DataParallel(member), make_net(4)])
    assert ensemble.members[0] is member
    images = torch.randn(3, *SHAPE)
    expected = torch.stack([m(images) for m in ensemble.eval().members]).mean(0)
    torch.testing.assert_close(ensemble(images), expected)
    probabilities = Ensemble(list(ensemble.members), "probabilities", [1, 3])
    shares = zip((0.25, 0.75), ensemble.members, strict=True)
    expected = sum(share * F.softmax(m(images), 1) for share, m in shares)
    torch.testing.assert_close(probabilities(images).exp(), expected)


NET = make_net(4)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (([NET],), "an ensemble needs at least 2 members, got 1: pass the network itself"),
        (([NET, NET],), "a member of the ensemble is given twice: give it once, with a larger weight"),
        (
            ([NET, "resnet18"],),
            "an ensemble's members are networks (nn.Module), got str: pass the individual networks",
        ),
        (([NET, BlackBoxTeacher(NET, 3)],), "got BlackBoxTeacher: average the answers inside the callable"),
        (([NET, Ensemble([NET, make_net(4)])],), "members are networks (nn.Module), got Ensemble"),
        (([NET, make_net(4)], "median"), "unknown mean of an ensemble 'median'"),
        (([NET, make_net(4)], "logits", [1]), "an ensemble of 2 members needs 2 weights, got 1"),
        (([NET, make_net(4)], "logits", [1, 0]), "weights must be positive and finite, got [1.0, 0.0]"),
        (
            ([NET, make_net(4)], "logits", [1, math.nan]),
            "weights must be positive and finite, got [1.0, nan]",
        ),
    ],
)
def test_what_is_no_ensemble_is_refused(arguments, told):
    with pytest.raises(UsageError, match=re.escape(told)) as caught:
        Ensemble(*arguments)
    assert "\n" not in str(caught.value)


def test_a_member_without_logits_is_named():
    with pytest.raises(
        UsageError, match="a member of the ensemble answers 2 images with Tensor that holds no logits"
    ):
        count_classes(Ensemble([NET, nn.Conv2d(1, 3, 3)]), SHAPE, "teacher")
