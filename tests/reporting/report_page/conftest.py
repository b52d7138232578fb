import copy
import shutil

import pytest
import torch

from dfad_fast import DFADTrainer
from tests.small_networks import make_net

SHAPE = (1, 8, 8)


def _fit(folder, iterations, **more):
    torch.manual_seed(0)
    teacher, student = make_net(8).eval(), make_net(4)
    told = {"dataset": None, "teacher": "own.py:big", "student": "own.py:small", "iterations": 6}
    config = {"distill": told, "repeat": f"dfad-fast distill --config {folder}/config.yaml", "threads": 1}
    trainer = DFADTrainer(
        teacher, copy.deepcopy(student), SHAPE, latent_dim=8, batch_size=8, out=folder, config=config
    )
    trainer.fit(iterations, log_every=1, evaluate_every=1, **more)


@pytest.fixture(scope="session")
def _kept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kept") / "run"
    _fit(folder, 6, evaluate=[(torch.randn(16, *SHAPE), torch.randint(4, (16,)))])
    return folder


@pytest.fixture
def finished(_kept, tmp_path):
    """The folder of a finished run with test images. Made once, then copied."""
    return shutil.copytree(_kept, tmp_path / "run")


@pytest.fixture
def fit():
    """Runs (folder, iterations) without test images; further arguments are those of ``fit``."""
    return _fit
