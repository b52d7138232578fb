"""DeepInversion, ADI, inversion without batch norm and from drawings against a plain loop, in double precision."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dfad_fast import DFADTrainer
from dfad_fast.methods import METHODS
from dfad_fast.sources import Inverted
from tests.engine.plain_inversion import PlainInversion
from tests.small_networks import SmallViT, make_net

BATCH = 10  # of 4 classes: two rounds of all, and two more
STEPS = 5
SHIFT = 0.25
OF_DRAWINGS = {"shift": 0.0, "flip": False, "lowest": False, "start": "procedural"}
"""What ``procedural-inversion`` asks of its images."""


def drawings_of(trainer):
    """Batches in the order in which the source takes them from its stock."""
    stock = trainer.distiller.source._stock
    rng = np.random.default_rng([trainer.distiller.settings.seed, 23])
    return iter(stock.draw(rng, stock._stock.size).split(BATCH))


def both(name, change=None):
    """Images and the student after two rounds, from the trainer and from the loop."""
    torch.manual_seed(0)
    teacher, student = SmallViT() if name == "psaq" else make_net(6), make_net(4)
    teacher.train()
    for _ in range(20):
        teacher(torch.randn(32, 1, 8, 8) * 1.5 + 0.3)
    rows = tuple(replace(row, decay="constant") for row in METHODS[name].generator)
    drawn = name == "procedural-inversion"
    settings = OF_DRAWINGS if drawn else {"shift": SHIFT}
    source = Inverted(steps=STEPS, **settings)
    method = replace(METHODS[name], generator=rows, student_steps=1, batches=source, recipe="inversion")
    trainer = DFADTrainer(
        teacher.eval().double(),
        student.double(),
        (1, 8, 8),
        method,
        batch_size=BATCH,
        seed=3,
        speed="exact",
    )
    trainer.networks.student.register_forward_pre_hook(
        lambda network, images: shown.append(images[0].detach()) if network.training else None
    )
    weights = {row.term.name: row.weight for row in rows} | (change or {})
    loop = PlainInversion(
        trainer,
        weights,
        STEPS,
        settings["shift"],
        settings.get("flip", True),
        settings.get("lowest", True),
        drawings_of(trainer) if drawn else None,
        l1=drawn,
    )
    loop.student._forward_pre_hooks.clear()
    shown, expected = [], []
    held_out = loop.round(4)  # comes first, and no step sees it
    for _ in range(2):
        trainer.step()
        expected.append(loop.round(4))
        loop.learn(expected[-1])
    return trainer, loop, shown, expected, held_out


@pytest.mark.parametrize("name", ["deepinversion", "adi", "tv-inversion", "psaq", "procedural-inversion"])
def test_the_source_follows_the_plain_loop(name):
    trainer, loop, shown, expected, held_out = both(name)
    assert len(shown) == len(expected)
    for images, others in zip(shown, expected, strict=True):
        torch.testing.assert_close(images, others, rtol=0, atol=1e-9)
    torch.testing.assert_close(trainer.sample(BATCH), held_out, rtol=0, atol=1e-9)
    for own, other in zip(trainer.networks.student.parameters(), loop.student.parameters(), strict=True):
        torch.testing.assert_close(own, other, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("deepinversion", {"batch_norm": 1.001}),
        ("adi", {"js": -10.01}),
        ("tv-inversion", {"label": 1.01}),
        ("psaq", {"patch_entropy": -1.01}),
        ("procedural-inversion", {"total_variation": 1.1e-3}),
    ],
)
def test_a_small_difference_is_seen(name, change):
    *_, shown, expected, _ = both(name, change)
    differences = [(one - other).abs().max() for one, other in zip(shown, expected, strict=True)]
    assert max(differences) > 1e-7
