"""Which images are drawn how often."""

import numpy as np
import pytest
import torch

from dfad_fast.sources.balancing import Choice


def classes(*counts):
    return torch.cat([torch.full((count,), label) for label, count in enumerate(counts)])


def shares(counts, repeats):
    """Each class's share of what is shown."""
    own = Choice(classes(*counts), repeats).shares
    return [float(part.sum()) for part in own.split(counts)]


def test_each_class_that_there_is_is_drawn_as_often_as_the_others():
    assert shares([700, 0, 200, 100], 10.0) == pytest.approx([1 / 3, 0, 1 / 3, 1 / 3])


def test_no_image_is_drawn_more_often_than_it_may_be():
    assert shares([900, 90, 10], 2.0) == pytest.approx([0.8, 0.18, 0.02])
    assert shares([600, 300, 100], 2.0) == pytest.approx([0.4, 0.4, 0.2])
    assert float(Choice(classes(97, 2, 1), 5.0).shares.max()) == pytest.approx(5 / 100)


@pytest.mark.parametrize("counts", [[7, 2, 1], [10], [3, 3, 4, 90, 13]])
def test_one_repeat_draws_all_alike(counts):
    torch.testing.assert_close(
        Choice(classes(*counts), 1.0).shares, torch.full((sum(counts),), 1 / sum(counts)).double()
    )


def test_draws_follow_the_shares():
    choice, rng = Choice(classes(6, 0, 3, 1), 2.0), np.random.default_rng(0)
    drawn = torch.cat([choice.draw(rng, 100) for _ in range(200)]).bincount(minlength=10) / 20_000
    assert float((drawn - choice.shares).abs().max()) < 4 * (0.2 * 0.8 / 20_000) ** 0.5
