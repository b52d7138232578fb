import copy

import pytest
import torch
from torch import nn

from dfad_fast import DFADTrainer
from dfad_fast.errors import UsageError
from dfad_fast.models.surgery.average import MovingAverage

SMALL = {"latent_dim": 8, "batch_size": 8, "seed": 0}


def test_the_average_follows_weights_and_statistics():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    average = MovingAverage(network, decay=0.9)
    expected = {key: value.double() for key, value in copy.deepcopy(network.state_dict()).items()}
    for n in range(30):
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(torch.randn_like(parameter))
        network(torch.randn(8, 3))
        average.update(network, n)
        d = min(0.9, (1 + n) / (10 + n))
        for key, value in network.state_dict().items():
            expected[key] = (
                d * expected[key] + (1 - d) * value.double() if value.is_floating_point() else value.clone()
            )
    for key, value in average.network.state_dict().items():
        torch.testing.assert_close(value.double(), expected[key].double(), rtol=1e-5, atol=1e-5)
    assert not any(p.requires_grad for p in average.network.parameters())


def test_a_decay_of_0_is_the_student_itself(pair):
    teacher, student = pair
    trainer = DFADTrainer(teacher, student, (1, 8, 8), "dfad", student_ema=0.0, **SMALL)
    trainer.step()
    averaged = trainer.averaged_student.state_dict()
    for key, value in student.state_dict().items():
        torch.testing.assert_close(averaged[key], value)


def test_it_is_evaluated_saved_and_resumed(pair, tmp_path):
    teacher, student = pair
    start = copy.deepcopy(student)
    batches = [(torch.randn(16, 1, 8, 8), torch.randint(4, (16,)))]
    whole = DFADTrainer(teacher, student, (1, 8, 8), "dfad", student_ema=0.9, **SMALL)
    whole.planned_iterations = 4
    summary = whole.fit(4, batches)
    assert 0 <= summary["averaged_accuracy_final"] <= summary["averaged_accuracy_best"] <= 1
    assert "averaged_accuracy" in whole.history[-1]

    half = DFADTrainer(
        teacher, copy.deepcopy(start), (1, 8, 8), "dfad", out=tmp_path, student_ema=0.9, **SMALL
    )
    half.planned_iterations = 4
    half.fit(2)
    resumed = DFADTrainer(
        teacher, copy.deepcopy(start), (1, 8, 8), "dfad", out=tmp_path, resume=True, student_ema=0.9, **SMALL
    )
    resumed.fit(2)
    averaged = resumed.averaged_student.state_dict()
    for key, value in whole.averaged_student.state_dict().items():
        assert torch.equal(averaged[key], value), key


def test_without_it_nothing_is_said_of_it(pair):
    trainer = DFADTrainer(*pair, (1, 8, 8), "dfad", **SMALL)
    assert trainer.averaged_student is None
    assert not any("averaged" in key for key in trainer.fit(1))


@pytest.mark.parametrize("decay", [1.0, -0.1, float("nan")])
def test_a_decay_out_of_range_is_refused(pair, decay):
    with pytest.raises(UsageError, match="student_ema must be at least 0 and less than 1"):
        DFADTrainer(*pair, (1, 8, 8), "dfad", student_ema=decay, **SMALL)
