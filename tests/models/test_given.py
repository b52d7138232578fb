"""What is given in place of a network is refused in one line that says what to pass."""

import pytest
import torch
from torch import nn

from dfad_fast import BlackBoxTeacher, DFADTrainer
from dfad_fast.errors import UsageError
from dfad_fast.models.reading.answers import find_logits

SHAPE = (1, 8, 8)


def make_net():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 3))


GIVEN = {
    "weights": (make_net().state_dict, "got weights without a network: build the network and call"),
    "a name": (
        lambda: "resnet18",
        r"got 'resnet18': build the network, for example with dfad_fast\.models\.create_network",
    ),
    "a class": (lambda: nn.Linear, "got the class Linear: pass an instance of it"),
    "a program": (
        lambda: torch.export.export(make_net(), (torch.zeros(2, *SHAPE),)),
        r"got an ExportedProgram: pass its \.module\(\)",
    ),
    "a function": (
        lambda: lambda images: images,
        r"got a function: as a teacher, wrap it in dfad_fast\.BlackBoxTeacher",
    ),
    "nothing": (lambda: None, "got NoneType: pass a network"),
}


@pytest.mark.parametrize("what", ["teacher", "student"])
@pytest.mark.parametrize("kind", GIVEN)
def test_what_is_no_network_is_refused(what, kind):
    make, told = GIVEN[kind]
    networks = {"teacher": make_net(), "student": make_net(), what: make()}
    with pytest.raises(UsageError, match=rf"the {what} must be a network \(nn\.Module\), {told}"):
        DFADTrainer(**networks, image_shape=SHAPE)


def test_a_student_that_is_frozen_altogether_is_refused_and_one_that_is_so_in_part_is_not():
    student = make_net().requires_grad_(False)
    with pytest.raises(
        UsageError, match=r"all parameters of the student are frozen.*student\.requires_grad_\(\)"
    ):
        DFADTrainer(make_net(), student, SHAPE, "dfad", batch_size=4)
    with pytest.raises(UsageError, match="all parameters of the student are frozen"):
        DFADTrainer(BlackBoxTeacher(make_net(), 3), student, SHAPE, "dfme", batch_size=4)
    student[1].bias.requires_grad_()
    before = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    DFADTrainer(make_net(), student, SHAPE, "dfad", batch_size=4).step()
    changed = {name for name, tensor in student.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {"1.bias"}


def test_features_with_one_pixel_are_not_taken_for_logits():
    features, logits = torch.zeros(2, 5, 1, 1), torch.zeros(2, 3)
    assert find_logits((features, logits), 2) is logits
    assert find_logits((features, features), 2) is None
    assert find_logits(features, 2).shape == (2, 5)
    assert find_logits(torch.zeros(2, 5, 2, 1), 2) is None
