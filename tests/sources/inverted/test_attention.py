"""Images that are optimized for a vision transformer: what is refused, read and resumed."""

import copy

import pytest
import torch

from dfad_fast import DFADTrainer
from dfad_fast.errors import UsageError
from dfad_fast.models import Ensemble
from tests.small_networks import SmallViT, make_net

SHAPE = (1, 8, 8)
BANK = "bank(inverted(steps=3), images=12)"


def trainer_of(teacher=None, **settings):
    torch.manual_seed(0)
    teacher, student = teacher or SmallViT(), make_net(4)
    settings = {"method": "psaq", "source": BANK, "student_steps": 2, "batch_size": 6, "seed": 3, **settings}
    return DFADTrainer(teacher, copy.deepcopy(student), SHAPE, **settings)


def test_the_entropy_of_the_patches_grows():
    terms = {"generator_terms": "-patch_entropy(bandwidth=0.2)", "source": "inverted(steps=30, shift=0)"}
    trainer = trainer_of(**terms, student_steps=1)
    entropies = []
    take = trainer.distiller.source._descend

    def descend(images, labels, turn, *rest, **more):
        made = take(images, labels, turn, *rest, **more)
        entropies.append([losses["generator/patch_entropy"].item() for losses in turn.losses[-30:]])
        return made

    trainer.distiller.source._descend = descend
    trainer.step()
    assert len(entropies) == 2
    assert all(values[-1] > values[0] + 0.1 for values in entropies)


def test_hooks_and_the_teacher_are_left_as_they_were():
    teacher = SmallViT().train()
    before = copy.deepcopy(teacher.state_dict())
    losses = trainer_of(teacher).step()
    assert {"generator/label", "generator/total_variation", "generator/patch_entropy"} <= set(losses)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in teacher.modules())
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert teacher.training


def test_a_run_goes_on_to_the_same_bits():
    whole, resumed = trainer_of(), trainer_of()
    whole.step()
    resumed.load_state_dict(copy.deepcopy(whole.state_dict()))
    for trainer in (whole, resumed):
        trainer.step()
    for name, value in whole.networks.student.state_dict().items():
        assert torch.equal(value, resumed.networks.student.state_dict()[name]), name


def test_all_members_of_an_ensemble_are_read():
    trainer = trainer_of(Ensemble([SmallViT(), SmallViT(blocks=1)]))
    assert len(trainer.networks.attention) == 3
    assert trainer.step()["generator/patch_entropy"].isfinite()


@pytest.mark.parametrize("as_program", [False, True])
def test_a_teacher_without_attention_is_refused(as_program, tmp_path):
    teacher = torch.jit.script(SmallViT().eval()) if as_program else make_net(4)
    with pytest.raises(
        UsageError, match="none that gives tokens of the image's patches: choose 'tv-inversion'"
    ):
        trainer_of(teacher, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_images_of_half_the_size_are_refused():
    with pytest.raises(UsageError, match="half shows the teacher smaller images, whose patches are fewer"):
        trainer_of(source="inverted(steps=4, half=2)")


def test_the_student_has_no_such_term():
    with pytest.raises(UsageError, match="patch_entropy judges images and not the student: leave it out"):
        trainer_of(student_terms="kl - patch_entropy")


def test_a_generator_may_have_it_too():
    trainer = trainer_of(method="dfad", source="fresh", generator_terms="-l1 - 0.1*patch_entropy")
    assert trainer.step()["generator/patch_entropy"].isfinite()
