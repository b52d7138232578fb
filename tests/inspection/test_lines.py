import math

import pytest
import torch
from torch import nn

from dfad_fast.inspection.lines import compare_on_lines, draw_pairs


class Threshold(nn.Module):
    """Class 1 where the single pixel exceeds ``at``."""

    def __init__(self, at):
        super().__init__()
        self.at = at

    def forward(self, images):
        x = images.flatten(1)
        return torch.cat([torch.zeros_like(x), x - self.at], 1)


def images(*values):
    return torch.tensor(values).view(-1, 1, 1, 1)


def test_pairs_differ_in_class_and_a_seed_repeats_them():
    answers = torch.arange(60) % 3
    first, second = draw_pairs(answers, torch.Generator().manual_seed(0))
    assert len(first) > 20
    assert bool((answers[first] != answers[second]).all())
    again = draw_pairs(answers, torch.Generator().manual_seed(0))
    assert torch.equal(first, again[0])
    assert torch.equal(second, again[1])


def test_a_boundary_elsewhere_shows_between_the_images_only():
    a, b = images(0.0, 0.0, 0.0), images(1.0, 1.0, 2.0)
    lines = compare_on_lines(Threshold(0.45), Threshold(0.75), a, b, batch_size=2)
    assert lines.pairs == 3
    assert lines.lam == pytest.approx([i / 10 for i in range(11)])
    expected = [
        sum((lam * end > 0.45) == (lam * end > 0.75) for end in (1, 1, 2)) / 3
        for lam in (i / 10 for i in range(11))
    ]
    assert lines.agreement == pytest.approx(expected)
    assert (lines.agreement[0], lines.agreement[6], lines.agreement[10]) == (1, pytest.approx(1 / 3), 1)
    assert lines.l1 == pytest.approx([0.15] * 11)  # 0.3 in one of two classes
    assert lines.mean_l1 == pytest.approx(0.15)
    assert lines.mean_agreement == pytest.approx(sum(expected) / 11)


def test_a_network_agrees_with_itself():
    network = Threshold(0.5)
    lines = compare_on_lines(network, network, images(0.0), images(1.0), batch_size=8)
    assert lines.agreement == [1] * 11
    assert lines.l1 == [0] * 11


def test_a_teacher_with_one_answer_has_no_lines():
    first, second = draw_pairs(torch.ones(8, dtype=torch.int64), torch.Generator())
    assert len(first) == 0
    x = torch.zeros(8, 1, 1, 1)
    lines = compare_on_lines(Threshold(0.5), Threshold(0.5), x[first], x[second], batch_size=8)
    assert lines.pairs == 0
    assert math.isnan(lines.mean_agreement)
    assert math.isnan(lines.mean_l1)
