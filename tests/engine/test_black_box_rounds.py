"""DFME and MAZE against loops written plainly: the same weights, in double precision. The teacher's are in float32."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dfad_fast import BlackBoxTeacher, DFADTrainer
from dfad_fast.methods import METHODS
from tests.small_networks import make_net

SHAPE, BATCH, LATENT, SEED = (1, 8, 8), 6, 5, 3
EPSILON, STUDENT_STEPS, DIRECTIONS, REPLAYED = 1e-3, 5, 3, 2
SOURCES = {
    "dfme": f"estimated(directions={DIRECTIONS}, exact_student=False)",
    "maze": f"replayed(estimated(directions={DIRECTIONS}), steps={REPLAYED}, batches=4)",
}
ITERATIONS, TOLERANCE = 2, 1e-9


def trainer_of(name):
    torch.manual_seed(0)
    network, student = make_net(6), make_net(4)
    teacher = BlackBoxTeacher(
        lambda images: network(images).softmax(1), network(torch.zeros(2, *SHAPE)).shape[1]
    )
    network.eval()
    method = replace(METHODS[name], batches=SOURCES[name])
    fixed = {"batch_size": BATCH, "latent_dim": LATENT, "seed": SEED, "speed": "exact", "student_lr": 0.01}
    return DFADTrainer(teacher, student.double(), SHAPE, method, **fixed), network


class PlainLoop:
    def __init__(self, name, trainer, network, epsilon=EPSILON):
        self.name, self.network, self.epsilon = name, network, epsilon
        self.student = copy.deepcopy(trainer.networks.student)
        self.generator = copy.deepcopy(trainer.networks.generator).train()
        self.noise = torch.Generator().manual_seed(SEED)
        self.directions = torch.Generator().manual_seed(SEED)
        self.of_student = torch.optim.SGD(self.student.parameters(), 0.01, momentum=0.9, weight_decay=5e-4)
        self.of_generator = torch.optim.Adam(self.generator.parameters(), 1e-3)
        self.kept, self.met, self.rng = [], 0, np.random.default_rng([SEED, 1])

    @torch.no_grad()
    def teacher(self, x):
        logs = self.network(x.float()).softmax(1).clamp_min(1e-7).log()
        return logs - logs.mean(1, keepdim=True)

    def apart(self, student, teacher):
        """How far the two are apart on each image."""
        teacher = teacher.double()
        if self.name == "dfme":
            return (student - teacher).abs().mean(1)
        return F.kl_div(student.log_softmax(1), teacher.softmax(1), reduction="none").sum(1)

    def images(self):
        return self.generator(torch.randn(BATCH, LATENT, generator=self.noise, dtype=torch.float64))

    def generator_step(self):
        x = self.images()
        self.student.eval()
        shown = x.detach().requires_grad_()
        loss = -self.apart(self.student(shown), self.teacher(shown))
        exact = torch.autograd.grad(loss.mean(), shown)[0] if self.name == "maze" else torch.zeros_like(shown)
        estimated = torch.zeros_like(exact)
        with torch.no_grad():
            for _ in range(DIRECTIONS):
                u = torch.randn(BATCH, *SHAPE, generator=self.directions).double()
                u = u / u.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
                moved = shown + self.epsilon * u
                student = self.student(shown if self.name == "maze" else moved)
                slope = (-self.apart(student, self.teacher(moved)) - loss) / self.epsilon
                estimated += x[0].numel() * slope.view(-1, 1, 1, 1) * u / DIRECTIONS
        self.of_generator.zero_grad()
        x.backward(exact + estimated / BATCH)
        self.of_generator.step()

    def student_step(self, x):
        self.student.train()
        self.of_student.zero_grad()
        self.apart(self.student(x), self.teacher(x)).mean().backward()
        self.of_student.step()

    def keep(self, x):
        self.met += 1
        if len(self.kept) < 4:
            self.kept.append(x)
        elif (place := int(self.rng.integers(self.met))) < 4:
            self.kept[place] = x

    def iteration(self):
        self.generator_step()
        for _ in range(STUDENT_STEPS):
            with torch.no_grad():
                x = self.images()
            self.student_step(x)
            self.keep(x)
        for _ in range(REPLAYED if self.name == "maze" else 0):
            self.student_step(self.kept[int(self.rng.integers(len(self.kept)))])


def distances(name, **change):
    trainer, network = trainer_of(name)
    loop = PlainLoop(name, trainer, network, **change)
    for _ in range(ITERATIONS):
        trainer.step()
        loop.iteration()
    return [
        max((a - b).abs().max().item() for a, b in zip(own.parameters(), other.parameters(), strict=True))
        for own, other in (
            (trainer.networks.generator, loop.generator),
            (trainer.networks.student, loop.student),
        )
    ]


@pytest.mark.parametrize("name", SOURCES)
def test_the_method_follows_the_plain_loop(name):
    assert max(distances(name)) < TOLERANCE


@pytest.mark.parametrize("name", SOURCES)
def test_another_difference_is_seen(name):
    assert max(distances(name, epsilon=1.01 * EPSILON)) > 30 * TOLERANCE
