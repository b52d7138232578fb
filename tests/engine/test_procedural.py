"""The method ``procedural`` against a loop written plainly, in double precision."""

from copy import deepcopy

import torch
import torch.nn.functional as F

from dfad_fast import DFADTrainer
from dfad_fast.engine.recipe import Recipe
from tests.small_networks import make_net

RATE, MOMENTUM = 0.05, 0.9


def test_a_round_is_five_steps_of_l1_on_drawn_images():
    torch.manual_seed(0)
    teacher, student = make_net(6).eval().double(), make_net(4).double()
    plain = deepcopy(student).train()
    trainer = DFADTrainer(
        teacher,
        student,
        (1, 8, 8),
        "procedural",
        batch_size=10,
        recipe=Recipe("sgd", student_lr=RATE, student_weight_decay=0.0),
        source="bank(procedural, new=0, images=40)",
        speed="exact",
    )
    shown = []
    trainer.networks.student.register_forward_pre_hook(
        lambda network, images: shown.append(images[0].detach().clone()) if network.training else None
    )
    while not shown:  # until the bank is full
        trainer.step()
    assert len(shown) == 5
    assert not trainer.method.generator

    optimizer = torch.optim.SGD(plain.parameters(), lr=RATE, momentum=MOMENTUM)
    for images in shown:
        optimizer.zero_grad()
        F.l1_loss(plain(images), teacher(images)).backward()
        optimizer.step()
    for own, other in zip(student.state_dict().values(), plain.state_dict().values(), strict=True):
        torch.testing.assert_close(own, other, rtol=0, atol=1e-6)
