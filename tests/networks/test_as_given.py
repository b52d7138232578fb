import pytest
import torch

from dfad_fast import DFADTrainer
from tests.small_networks import make_net

# Networks that were never trained make collapsed generators, which is said.
pytestmark = pytest.mark.filterwarnings("ignore::dfad_fast.errors.DFADFastWarning")


@pytest.fixture
def trainer():
    teacher, student = make_net(8).train(), make_net(4).eval()
    return DFADTrainer(teacher, student, (1, 8, 8), "dfad-ar", latent_dim=8, batch_size=8)


def handed_in(trainer):
    """How the user's networks are: strides of weights, modes and flags."""
    modules = (trainer.teacher, trainer.student)
    return [
        *(p.stride() for module in modules for p in module.parameters()),
        *(part.training for module in modules for part in module.modules()),
        *(p.requires_grad for module in modules for p in module.parameters()),
    ]


def given():
    teacher, student = make_net(8).train(), make_net(4).eval()
    return handed_in(type("Pair", (), {"teacher": teacher, "student": student}))


def test_networks_are_left_as_they_were_handed_in(trainer):
    assert handed_in(trainer) == given()
    trainer.fit(2)
    assert handed_in(trainer) == given()
    trainer.sample(4)
    trainer.summary()
    assert handed_in(trainer) == given()
    trainer.step()
    assert [m.training for m in trainer.student.modules()] == [False] * len(list(trainer.student.modules()))
    trainer.fit(1)
    assert handed_in(trainer) == given()


def test_steps_have_weights_in_channels_last_and_the_next_fit_puts_them_back(trainer):
    weight = trainer.student[4].weight
    assert weight.is_contiguous()
    before = weight.detach().clone()
    with trainer.distiller.working():
        assert weight.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(weight, before)
    trainer.step()
    assert weight.is_contiguous(memory_format=torch.channels_last)
    trainer.summary()
    assert weight.is_contiguous()


def test_they_are_put_back_after_an_error_which_is_the_one_that_is_raised(trainer):
    def fails(*_):
        raise ZeroDivisionError

    trainer.student[0].register_forward_hook(fails)
    with pytest.raises(ZeroDivisionError), trainer.distiller.working():
        trainer.step()
    assert handed_in(trainer) == given()
