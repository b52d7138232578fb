"""Several teachers in a run: what steps make of them is what a loop makes that calls each by itself."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.faithful import OBJECTIVES, FaithfulLoop
from dfad_fast import DFADTrainer, Ensemble, UsageError
from dfad_fast.engine.recipe import Recipe
from dfad_fast.models import DFADGenerator
from dfad_fast.models.reading.batch_norm import batch_norm_layers
from dfad_fast.terms import BatchNormStatistics, Weighted
from tests.small_networks import make_net

SHAPE = (1, 8, 8)
RATES = Recipe("sgd", student_lr=1e-3, student_weight_decay=0.0, generator_lr=1e-5)


def lived_in(width, seed, classes=4):
    torch.manual_seed(seed)
    network = make_net(width, classes).train()
    for _ in range(20):
        network(torch.randn(32, *SHAPE) * 1.5 + 0.3)
    return network.eval()


def teachers():
    return [lived_in(8, 0), lived_in(12, 1)]


def trainer_of(teacher, method="dfad", **further):
    torch.manual_seed(2)
    student, generator = make_net(4), DFADGenerator(SHAPE, latent_dim=16, width=8)
    fixed = {"latent_dim": 16, "batch_size": 8, "recipe": RATES, "student_init": "random"}
    return DFADTrainer(teacher, student, SHAPE, method=method, generator=generator, **{**fixed, **further})


class PlainMean(nn.Module):
    """The mean written out, of members that are not changed."""

    def __init__(self, members, probabilities):
        super().__init__()
        self.first, self.second = map(copy.deepcopy, members)
        self.probabilities = probabilities

    def forward(self, images):
        if self.probabilities:
            return (0.25 * F.softmax(self.first(images), 1) + 0.75 * F.softmax(self.second(images), 1)).log()
        return (self.first(images) + self.second(images)) / 2


@pytest.mark.parametrize("probabilities", [False, True])
def test_steps_follow_a_plain_loop(probabilities):
    members = teachers()
    given = Ensemble(members, "probabilities", [1, 3]) if probabilities else members
    trainer = trainer_of(given)
    loop = FaithfulLoop(trainer, OBJECTIVES["dfad"])
    loop.teacher = PlainMean(members, probabilities)
    for _ in range(3):
        losses, expected = trainer.step(), loop.step()
        for name, value in expected.items():
            assert losses[name].item() == pytest.approx(value, rel=1e-4), name
    for got, want in zip(trainer.networks.student.parameters(), loop.student.parameters(), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
    assert all(p.grad is None for member in members for p in member.parameters())


def test_each_member_is_folded_and_runs_by_the_kernels():
    trainer = trainer_of(teachers())
    prober = trainer.distiller.prober
    assert str(prober.folding) == "4 of 4 folded into the layers before them"
    assert not any(isinstance(module, nn.BatchNorm2d) for module in prober.quick_teacher.modules())
    trainer.step()
    told = [line for line in prober.describe_kernels() if line.startswith("folded teacher's")]
    assert [line.partition(":")[0] for line in told] == [
        "folded teacher's member 0's convolutions",
        "folded teacher's member 1's convolutions",
    ]


class Uncopied(nn.Sequential):
    def __deepcopy__(self, _memo):
        raise RuntimeError("not this one")


def test_a_member_that_cannot_be_folded_keeps_no_other_from_it():
    first, second = teachers()
    trainer = trainer_of([first, Uncopied(*second)])
    assert str(trainer.distiller.prober.folding) == "2 of 4 folded into the layers before them"
    assert trainer.notices == ["teacher's batch norm layers: 2 of 4 folded into the layers before them"]


class Named(nn.Module):
    """Answers a dictionary."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, images):
        return {"logits": self.network(images)}


def test_each_member_gets_what_it_needs():
    first, second = teachers()
    trainer = trainer_of([first, Named(second)])
    assert trainer.networks.needs["teacher's member 0"].logits is False
    assert trainer.networks.needs["teacher's member 1"].logits is True
    assert (
        "the teacher's member 1 does not return logits [B, classes] alone: they are taken from its answer"
        in trainer.notices
    )
    images = torch.randn(3, *SHAPE)
    torch.testing.assert_close(trainer.networks.teacher(images), (first(images) + second(images)) / 2)


def test_batch_norm_terms_sum_over_the_layers_of_all_members():
    def term(teacher):
        rows = (Weighted(1.0, BatchNormStatistics()),)
        return trainer_of(teacher, generator_terms=rows).step()["generator/batch_norm"].item()

    first, second = teachers()
    together = term(Ensemble([first, second]))
    assert len(batch_norm_layers(Ensemble([first, second]))) == 4
    assert together == pytest.approx(term(first) + term(second), rel=1e-3)


def test_features_are_the_first_members_unless_taps_name_another():
    taps = trainer_of(teachers(), "dfad-ar").distiller.describe()["taps"]
    assert [row["teacher"] for row in taps] == ["members.0.2#0", "members.0.6#0"]
    named = trainer_of(teachers(), "dfad-ar", taps_teacher=["members.1.6"], taps_student=["6"])
    assert named.networks.matching.describe()[0]["teacher_shape"] == [24, 4, 4]
    losses = named.step()
    assert losses["student/boundary"].isfinite()


def test_a_student_begins_from_the_first_member():
    members = [lived_in(8, 0), lived_in(8, 1)]

    def begun(teacher):
        torch.manual_seed(5)
        trainer = DFADTrainer(
            teacher, make_net(4), SHAPE, method="dfad", batch_size=8, student_init="teacher"
        )
        return trainer.networks.student.state_dict()

    # The images that it is fitted on are drawn by the statistics of all; the channels are the first one's.
    together, alone = begun(members), begun(members[0])
    torch.testing.assert_close(together["0.weight"], alone["0.weight"])


@pytest.mark.parametrize(
    ("second", "told"),
    [
        (
            lambda: lived_in(8, 1, classes=5),
            "with the same number of classes, got the teacher's member 0 with 4",
        ),
        (lambda: lived_in(8, 1).double(), "the teacher's member 1 is torch.float64 on cpu and the student"),
        (lambda: nn.Conv2d(1, 3, 3), "the teacher's member 1 must map images"),
    ],
)
def test_members_that_do_not_fit_are_named(second, told):
    with pytest.raises(UsageError, match=told):
        trainer_of([lived_in(8, 0), second()])


def test_a_member_that_answers_probabilities_is_named():
    with pytest.warns(UserWarning, match="the teacher's member 1 returns probabilities, not logits"):
        trainer_of([lived_in(8, 0), nn.Sequential(lived_in(8, 1), nn.Softmax(1))])


def test_a_run_resumes_to_the_bit_and_refuses_another_mean(tmp_path):
    def run(folder, iterations, mean="logits", **further):
        trainer = trainer_of(Ensemble(teachers(), mean), "dfad-ar-vi-bn", out=folder, **further)
        trainer.planned_iterations = 4
        trainer.fit(iterations)
        return trainer.networks.student.state_dict()

    whole = run(tmp_path / "whole", 4)
    run(tmp_path / "parts", 2)
    resumed = run(tmp_path / "parts", 2, resume=True)
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    for other in (Ensemble(teachers(), "probabilities"), lived_in(8, 0)):
        with pytest.raises(UsageError, match=r"ensemble: .*'mean': 'logits'"):
            trainer_of(other, "dfad-ar-vi-bn", out=tmp_path / "parts", resume=True)
