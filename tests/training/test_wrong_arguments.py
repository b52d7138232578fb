"""Arguments of another kind are refused in one line."""

import re

import numpy as np
import pytest
from torch import nn

from dfad_fast import DFADTrainer
from dfad_fast.errors import UsageError

SHAPE = (1, 8, 8)
WRONG = {
    "seed": ({"seed": "a"}, "seed must be a whole number, got 'a'"),
    "batch_size": ({"batch_size": 8.0}, "batch_size must be a whole number, got 8.0"),
    "latent_dim": ({"latent_dim": True}, "latent_dim must be a whole number, got True"),
    "student_lr": ({"student_lr": "0.1"}, "student_lr must be a number, got '0.1'"),
    "method": ({"method": None}, "method must be a name or a dfad_fast.methods.Method, got None"),
    "a single mean": ({"image_mean": 0.5, "image_std": 0.2}, "one finite value for each of 1 channels"),
    "a mean of bytes": ({"image_mean": (123.7,), "image_std": (58.4,)}, "divide mean and std by 255"),
}


def make_trainer(**settings):
    teacher, student = (nn.Sequential(nn.Flatten(), nn.Linear(64, 3)) for _ in range(2))
    return DFADTrainer(
        teacher, student, SHAPE, **{"method": "dfad", "batch_size": 4, "latent_dim": 4, **settings}
    )


@pytest.mark.parametrize("kind", WRONG)
def test_settings_of_another_kind_are_refused(kind):
    settings, told = WRONG[kind]
    with pytest.raises(UsageError, match=re.escape(told)):
        make_trainer(**settings)


def test_numbers_of_numpy_are_taken_and_others_are_not():
    trainer = make_trainer(seed=np.int64(1), batch_size=np.int32(4), student_lr=np.float64(0.1))
    trainer.fit(np.int64(2))
    assert trainer.iteration == 2
    with pytest.raises(UsageError, match=r"iterations must be a whole number, got 2\.5"):
        trainer.fit(2.5)


def test_a_function_is_no_callback():
    with pytest.raises(UsageError, match=r"derived from dfad_fast\.runs\.events\.Callback, got function"):
        make_trainer().fit(1, callbacks=[lambda event: None])
