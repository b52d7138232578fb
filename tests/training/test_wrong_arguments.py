"""Arguments of another kind are refused in one line."""

import copy
import pickle
import re

import numpy as np
import pytest
from torch import nn

from dfad_fast import DFADTrainer
from dfad_fast.errors import UsageError
from dfad_fast.runs.events import Callback

SHAPE = (1, 8, 8)
WRONG = {
    "seed": ({"seed": "a"}, "seed must be a whole number, got 'a'"),
    "batch_size": ({"batch_size": 8.0}, "batch_size must be a whole number, got 8.0"),
    "latent_dim": ({"latent_dim": True}, "latent_dim must be a whole number, got True"),
    "student_lr": ({"student_lr": "0.1"}, "student_lr must be a number, got '0.1'"),
    "no seed": ({"seed": None}, "seed must be a whole number, got None"),
    "an unknown type of method": (
        {"method": 7},
        "method must be a name or a dfad_fast.methods.Method, got 7",
    ),
    "no speed": ({"speed": None}, "speed must be auto, exact, fast or a dfad_fast.Levers, got None"),
    "no source": (
        {"source": None},
        "source must be text such as 'bank(fresh)' or a dfad_fast.sources.SourceSpec, got None",
    ),
    "terms that are none": ({"student_terms": 3}, "rows of dfad_fast.terms.Weighted, got 3"),
    "a term without a weight": ({"generator_terms": ["l1"]}, "rows of dfad_fast.terms.Weighted, got ['l1']"),
    "a folder that is none": ({"out": 3}, "out must be the path of a folder, got 3"),
    "no generator": ({"generator": None}, "unknown generator None"),
    "a shape in text": ({"image_shape": "1,8,8"}, "each at least 1, such as 3,32,32; got '1,8,8'"),
    "a side that is not whole": ({"image_shape": (1, 8.5, 8)}, "such as 3,32,32; got [1, 8.5, 8]"),
    "a mean in text": ({"image_mean": ["0"], "image_std": ["1"]}, "one finite value for each of 1 channels"),
    "method": ({"method": None}, "method must be a name or a dfad_fast.methods.Method, got None"),
    "a single mean": ({"image_mean": 0.5, "image_std": 0.2}, "one finite value for each of 1 channels"),
    "a mean of bytes": ({"image_mean": (123.7,), "image_std": (58.4,)}, "divide mean and std by 255"),
}


def make_trainer(**settings):
    teacher, student = (nn.Sequential(nn.Flatten(), nn.Linear(64, 3)) for _ in range(2))
    usual = {"image_shape": SHAPE, "method": "dfad", "batch_size": 4, "latent_dim": 4}
    return DFADTrainer(teacher, student, **{**usual, **settings})


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


def test_callbacks_of_a_generator_are_called():
    called = []

    class Noting(Callback):
        def stepped(self, event):
            called.append(event.iteration)

    make_trainer().fit(2, callbacks=(callback for callback in [Noting()]))
    assert called == [1, 2]
    with pytest.raises(UsageError, match="callbacks is a list, got Noting: put the callback in a list"):
        make_trainer().fit(1, callbacks=Noting())
    with pytest.raises(UsageError, match="got the class Noting"):
        make_trainer().fit(1, callbacks=[Noting])


def test_a_function_is_no_callback():
    with pytest.raises(UsageError, match=r"derived from dfad_fast\.runs\.events\.Callback, got function"):
        make_trainer().fit(1, callbacks=[lambda event: None])


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_trainer_is_not_copied_in_part(copied):
    trainer = make_trainer()
    for whole in (trainer, trainer.distiller):
        with pytest.raises(UsageError, match="cannot be copied or pickled: build another"):
            copied(whole)
    make_trainer().load_state_dict(copy.deepcopy(trainer.state_dict()))
