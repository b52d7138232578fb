"""FastDFKD, NAYER and CMI against a loop written plainly: the same images and weights, in double precision."""

from dataclasses import replace

import pytest
import torch

from dfad_fast import DFADTrainer
from dfad_fast.methods import METHODS
from dfad_fast.sources import Restarted
from tests.engine.plain_rounds import PlainRounds
from tests.small_networks import make_net

TOLERANCE = 1e-6  # the maps by which images are moved are in float32
ROUNDS = 3
BATCH = 10  # of 4 classes: two rounds of all, and two more
SPECS = {
    "fast-5": Restarted(steps=5),
    "nayer": Restarted(steps=3, restart="whole", every=2, lr_noise=0.0, vectors="random"),
    "cmi": Restarted(
        steps=3, restart="whole", weights="normal", lr_noise=1e-3, memory=0.0, features=64, compared=7
    ),
}


def trainer_of(name, **settings):
    torch.manual_seed(0)
    teacher, student = make_net(6), make_net(4)
    teacher.train()
    for _ in range(20):
        teacher(torch.randn(32, 1, 8, 8) * 1.5 + 0.3)
    rows = tuple(replace(row, decay="constant") for row in METHODS[name].generator)
    method = replace(METHODS[name], generator=rows, student_steps=1, batches=SPECS[name])
    return DFADTrainer(
        teacher.eval().double(),
        student.double(),
        (1, 8, 8),
        method,
        image_mean=(0.3,),
        image_std=(0.4,),
        batch_size=BATCH,
        latent_dim=6,
        seed=3,
        speed="exact",
        **settings,
    )


def both(name, change=None):
    """Images and weights after some rounds, from the trainer and from the loop."""
    trainer = trainer_of(name)
    weights = {row.term.name: row.weight for row in trainer.method.generator}
    spec = SPECS[name] if change is None else replace(SPECS[name], **change)
    loop = PlainRounds(trainer, spec, weights)
    if name == "cmi":
        loop.contrast_by(trainer.distiller.source.networks[0])
    shown = []
    trainer.networks.student.register_forward_pre_hook(
        lambda student, images: shown.append(images[0]) if student.training else None
    )
    for _ in range(ROUNDS):
        trainer.step()
    expected = [loop.iteration() for _ in range(ROUNDS)]
    return trainer, loop, shown, expected


def parameters(network):
    return torch.cat([p.detach().flatten() for p in network.parameters()])


@pytest.mark.parametrize("name", SPECS)
def test_the_source_follows_the_plain_loop(name):
    trainer, loop, shown, expected = both(name)
    for images, others in zip(shown, expected, strict=True):
        torch.testing.assert_close(images, others, rtol=0, atol=TOLERANCE)
    for network in ("generator", "student"):
        own, other = parameters(getattr(trainer.networks, network)), parameters(getattr(loop, network))
        torch.testing.assert_close(own, other, rtol=0, atol=TOLERANCE)
    state = trainer.distiller.source.state_dict()
    if name == "fast-5":
        for own, other in zip(
            state["beginning"]["meta"]["weights"], loop.meta_optimizer.param_groups[0]["params"], strict=True
        ):
            torch.testing.assert_close(own, other.detach(), rtol=0, atol=TOLERANCE)
    if name == "cmi":
        torch.testing.assert_close(
            parameters(trainer.distiller.source.networks[0]), parameters(loop.head), rtol=0, atol=TOLERANCE
        )


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("fast-5", {"memory": 0.88}),
        ("fast-5", {"lr_noise": 0.0101}),
        ("fast-5", {"restart": "none"}),
        ("nayer", {"every": 1}),
        ("cmi", {"compared": 6}),
    ],
)
def test_a_small_difference_is_seen(name, change):
    _, _, shown, expected = both(name, change)
    assert (shown[-1] - expected[-1]).abs().max() > 30 * TOLERANCE
