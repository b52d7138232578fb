from contextlib import nullcontext

import pytest
import torch
from torch import nn

from dfad_fast import DFADTrainer
from dfad_fast.engine.evaluating import held_out_images
from dfad_fast.engine.evaluation import TestSet, accuracy, generated_scores
from dfad_fast.errors import DFADFastWarning, UsageError
from tests.training.test_trainer import SHAPE, SMALL


class Constant(nn.Module):
    """Answers a class for every image: the rounded value of its first pixel plus ``shift``."""

    def __init__(self, shift: int):
        super().__init__()
        self.shift = nn.Parameter(torch.tensor(float(shift)))

    def forward(self, images):
        classes = (images.flatten(1)[:, 0] + self.shift).round().long() % 4
        return nn.functional.one_hot(classes, 4).float()


def batches():
    labels = torch.arange(8) % 4
    images = labels.float().reshape(8, 1, 1, 1).clone()
    images[0] = 1  # one image that a network without shift gets wrong
    return [(images[:5], labels[:5]), (images[5:], labels[5:])]


def test_accuracy_counts_images_not_batches():
    assert accuracy(Constant(0), batches()) == 7 / 8
    assert accuracy(Constant(1), batches()) == 0


def test_scores_of_student_and_teacher():
    scores = TestSet(Constant(0), batches()).scores(Constant(0))
    assert (scores.teacher_accuracy, scores.student_accuracy, scores.agreement) == (7 / 8, 7 / 8, 1)
    scores = TestSet(Constant(0), batches()).scores(Constant(1))
    assert (scores.teacher_accuracy, scores.student_accuracy, scores.agreement) == (7 / 8, 0, 0)


def test_a_one_shot_iterator_can_be_evaluated_on_more_than_once():
    test_set = TestSet(Constant(0), iter(batches()))
    assert test_set.scores(Constant(0)) == test_set.scores(Constant(0))


def test_a_loader_that_shuffles_is_refused():
    class Shuffles:
        def __init__(self):
            self.turn = 0

        def __iter__(self):
            self.turn += 1
            return iter(batches() if self.turn == 1 else batches()[::-1])

    test_set = TestSet(Constant(0), Shuffles())
    with pytest.raises(UsageError, match="shuffle=False"):
        test_set.scores(Constant(0))


def test_nothing_to_evaluate_on_is_refused():
    for evaluate in (lambda: accuracy(Constant(0), []), lambda: TestSet(Constant(0), [])):
        with pytest.raises(UsageError, match="the loader gave no batch"):
            evaluate()


class Repeats(nn.Module):
    """A generator that makes one image, but for a part ``apart`` of noise."""

    def __init__(self, apart):
        super().__init__()
        self.image, self.apart = nn.Parameter(torch.randn(1, *SHAPE)), apart

    def forward(self, noise):
        return self.image + self.apart * noise.repeat(1, 8).view(-1, *SHAPE)


@pytest.mark.parametrize("apart", [0.0, 0.005])
def test_a_generator_that_makes_one_image_is_no_success(pair, apart):
    trainer = DFADTrainer(*pair, SHAPE, "dfad", Repeats(apart), **SMALL)
    with pytest.warns(
        DFADFastWarning, match="generated images are nearly all alike, so agreement on them says"
    ):
        summary = trainer.fit(2, log_every=1)
    assert summary["classes"] == 4
    assert summary["classes_generated"] == trainer.history[-1]["classes_generated"] == 1
    assert summary["effective_classes_generated"] == 1
    assert summary["variety_generated"] == pytest.approx(apart, abs=0.01)
    assert len(summary["notices"]) == 1


def test_images_of_one_class_are_no_success_and_of_several_are_no_notice(pair):
    class OneClass(nn.Module):
        def __init__(self, bias):
            super().__init__()
            self.bias = nn.Parameter(torch.tensor(bias))

        def forward(self, images):
            return torch.stack([images.mean((1, 2, 3)), self.bias.expand(len(images))], 1)

    for bias, notices in ((0.0, 0), (9.0, 1)):
        trainer = DFADTrainer(OneClass(bias), OneClass(bias), SHAPE, "dfad", Repeats(5.0), **SMALL)
        warns = pytest.warns(DFADFastWarning, match="the teacher sees class 1 in 100.0 % of 1,024 held-out")
        with warns if notices else nullcontext():
            found = trainer.summary()["notices"]
        assert len(found) == notices


def test_scores_of_batches_are_those_of_all_images_at_once(pair):
    """And one batch alone is held at a time."""
    trainer = DFADTrainer(*pair, SHAPE, "dfad", **SMALL)
    images = trainer.sample(20)
    held, most = 0, 0

    def batches():
        nonlocal held, most
        for batch in trainer.distiller.held_out_batches(20):
            held, most = held + len(batch), max(most, len(batch))
            yield batch

    scores = generated_scores(trainer.networks, batches(), 20)
    teacher, student = (network.eval()(images) for network in pair)
    assert (held, most) == (20, SMALL["batch_size"])
    assert scores.discrepancy == pytest.approx((student - teacher).abs().mean().item(), rel=1e-5)
    assert scores.agreement == pytest.approx((student.argmax(1) == teacher.argmax(1)).double().mean().item())
    assert scores.balance.counts == torch.bincount(teacher.argmax(1), minlength=4).tolist()
    spread = (images - images.mean(0)).square().mean().sqrt() / (
        images - images.mean()
    ).square().mean().sqrt()
    assert scores.variety == pytest.approx(spread.item(), rel=1e-5)
    # As many are looked at in a run's evaluations as cost little.
    assert held_out_images(trainer.distiller, 1) == 32
    assert held_out_images(trainer.distiller, 100) == trainer.images_per_iteration
    assert held_out_images(trainer.distiller, 10**6) == 1024


def test_figures_are_on_the_networks_device_whatever_torchs_default_is():
    teacher, student = (nn.Sequential(nn.Flatten(), nn.Linear(64, 3)) for _ in range(2))
    trainer = DFADTrainer(teacher, student, (1, 8, 8), "dfad", batch_size=4, latent_dim=4)
    with torch.device("meta"):
        summary = trainer.fit(1)
    assert summary["agreement_generated"] is not None
