import pytest

from dfad_fast.data import dataset_names
from dfad_fast.data.defaults import DEFAULTS
from dfad_fast.models import create_network

SHAPES = {"digits": (1, 8, 8), "mnist": (1, 28, 28), "fashion-mnist": (1, 28, 28)}


def test_every_dataset_has_defaults():
    assert set(DEFAULTS) == set(dataset_names())


@pytest.mark.parametrize("dataset", DEFAULTS)
def test_default_pairs_can_be_built_and_the_student_is_smaller(dataset):
    defaults = DEFAULTS[dataset]
    sizes = [
        sum(p.numel() for p in create_network(name, SHAPES.get(dataset, (3, 32, 32)), 10).parameters())
        for name in (defaults.student, defaults.teacher)
    ]
    assert sizes[0] < 0.6 * sizes[1]
