"""KegNet against a loop written plainly, in double precision."""

from dataclasses import replace

import pytest

from dfad_fast import DFADTrainer
from dfad_fast.methods import METHODS
from dfad_fast.sources import TrainedFirst
from tests.engine.plain_kegnet import PlainKegNet


def both(pair, change=None):
    """The trainer and the loop after 3 steps of 2 generators, and 2 of the student."""
    teacher, student = (network.double() for network in pair)
    source = TrainedFirst(steps=3, generators=2)
    method = replace(METHODS["kegnet"], student_steps=2, generator_steps=2, batches=source)
    trainer = DFADTrainer(
        teacher, student, (1, 8, 8), method, batch_size=6, latent_dim=7, seed=3, speed="exact"
    )
    weights = {row.term.name: row.weight for row in method.generator} | (change or {})
    loop = PlainKegNet(trainer, weights, classes=4)
    for _ in range(3):
        trainer.step()
        assert trainer.distiller.source.own_steps in (2, 0)
    for _ in range(3):
        loop.train_generators()
    for _ in range(2):
        loop.teach()
    return trainer, loop


def differences(trainer, loop):
    networks = trainer.networks
    made = zip(networks.generator.members, loop.generators, strict=True)
    pairs = [
        *((own.generator, other) for own, other in made),
        *zip(networks.generator.decoders, loop.decoders, strict=True),
        (networks.student, loop.student),
    ]
    return [
        (a.detach() - b.detach()).abs().max()
        for own, other in pairs
        for a, b in zip(own.parameters(), other.parameters(), strict=True)
    ]


def test_the_source_follows_the_plain_loop(pair):
    assert max(differences(*both(pair))) < 1e-9


@pytest.mark.parametrize("name", ["label", "reconstruction", "diversity"])
def test_a_small_difference_is_seen(pair, name):
    assert max(differences(*both(pair, {name: 1.01}))) > 1e-7
