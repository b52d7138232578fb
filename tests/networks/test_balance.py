import math

import pytest
import torch

from dfad_fast.networks.balance import class_balance


def test_as_many_of_each_class_is_one_and_a_single_class_zero():
    assert class_balance(torch.arange(12) % 4, 4).entropy == pytest.approx(1)
    single = class_balance(torch.full((5,), 2), 4)
    assert single.counts == [0, 0, 5, 0]
    assert str(single.entropy) == "0.0"


def test_a_case_by_hand():
    measured = class_balance(torch.tensor([0, 0, 1, 2]), 4)
    assert measured.counts == [2, 1, 1, 0]
    assert measured.entropy == pytest.approx((0.5 * math.log(2) + 2 * 0.25 * math.log(4)) / math.log(4))
