from types import SimpleNamespace

import pytest
import torch
from torch import nn

from dfad_fast import DFADTrainer, UsageError
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
    return handed_in(SimpleNamespace(teacher=teacher, student=student))


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


class Blurs(nn.Module):
    """A network with a fixed kernel, a buffer that has a layout too."""

    def __init__(self):
        super().__init__()
        self.net = make_net(4)
        self.register_buffer("kernel", torch.full((1, 1, 3, 3), 1 / 9).expand(4, 4, 3, 3).contiguous())

    def forward(self, x):
        x = nn.functional.conv2d(x.expand(-1, 4, -1, -1), self.kernel, padding=1)
        return self.net(x[:, :1])


def test_buffers_are_put_back_too():
    teacher = Blurs().eval()
    trainer = DFADTrainer(teacher, make_net(4), (1, 8, 8), "dfad", latent_dim=8, batch_size=8)
    with trainer.distiller.working():
        assert teacher.kernel.is_contiguous(memory_format=torch.channels_last)
    assert teacher.kernel.is_contiguous()


@torch.inference_mode()
def test_a_step_and_a_summary_in_inference_mode_leave_weights_that_can_be_trained(trainer):
    trainer.step()
    trainer.summary()
    trainer.step()
    assert not any(p.is_inference() for p in trainer.student.parameters())


def test_a_trainer_that_cannot_be_made_leaves_the_networks_alone():
    teacher, student = make_net(8).train(), make_net(4).eval()
    with pytest.raises(UsageError, match="unknown method"):
        DFADTrainer(teacher, student, (1, 8, 8), "no such method", latent_dim=8, batch_size=8)
    assert handed_in(SimpleNamespace(teacher=teacher, student=student)) == given()


def test_two_trainers_with_one_teacher_find_its_layout(trainer):
    other = DFADTrainer(trainer.teacher, make_net(4), (1, 8, 8), "dfad", latent_dim=8, batch_size=8)
    moved = []
    # Held, so that nothing new lies at the same place.
    trainer.distiller._layouts.when_moved = lambda: moved.append(
        [p.data for p in trainer.teacher.parameters()]
    )
    trainer.step()
    trainer.step()
    assert len(moved) == 1
    other.fit(1)  # puts the teacher back
    trainer.step()
    assert len(moved) == 2
    assert trainer.teacher[4].weight.is_contiguous(memory_format=torch.channels_last)


def test_a_trainer_is_itself_alone(trainer):
    other = DFADTrainer(trainer.teacher, trainer.student, (1, 8, 8), "dfad", latent_dim=8, batch_size=8)
    assert trainer != other
    assert len({trainer, other}) == 2
    assert "Conv2d" not in repr(trainer)
