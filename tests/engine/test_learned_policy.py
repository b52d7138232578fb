"""Virtual samples whose mixtures are learned (AdaMixUp) against a loop written plainly, in double precision."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dfad_fast import DFADTrainer
from dfad_fast.errors import UsageError
from dfad_fast.methods import METHODS
from dfad_fast.networks.levers import Levers
from tests.small_networks import make_net

SHAPE = (1, 8, 8)
SMALL = {"latent_dim": 8, "batch_size": 6, "seed": 3}
TERMS = (
    "l1 + 0.5*virtual(policy=learned, intrusion=0.7, policy_lr=0.01, labels={labels}, distance='{distance}')"
)


def networks(dtype=torch.float64):
    torch.manual_seed(0)
    return make_net(6).eval().to(dtype), make_net(4).to(dtype)


def trainer_of(labels="mixed", distance="l1", dtype=torch.float64, **settings):
    terms = TERMS.format(labels=labels, distance=distance)
    settings = {"speed": "exact", "recipe": "sgd", **SMALL, **settings}
    return DFADTrainer(*networks(dtype), SHAPE, "dfad", student_terms=terms, **settings)


def layers(network, x):
    """Three convolutions, the mean of all places, and a linear layer, from what a policy's or discriminator's state
    dictionary holds."""
    for place in (0, 2, 4):
        x = F.conv2d(x, network[f"{place}.weight"], network[f"{place}.bias"], stride=2, padding=1).relu()
    return x.mean((2, 3)) @ network["8.weight"].T + network["8.bias"]


class PlainLoop:
    """DFAD with learned virtual samples: the student, the policy and its discriminator descend one loss, then the
    generator takes its step."""

    def __init__(self, trainer, labels, distance, intrusion=0.7):
        self.labels, self.distance, self.weight = labels, distance, intrusion
        parts = trainer.networks
        self.teacher, self.student, self.generator = (
            copy.deepcopy(network) for network in (parts.teacher, parts.student, parts.generator)
        )
        self.generator.train().fused = False
        (made,) = parts.term_modules
        self.policy, self.discriminator = (
            {name: p.detach().clone().requires_grad_() for name, p in part.named_parameters()}
            for part in (made.region, made.discriminator)
        )
        recipe = trainer.recipe
        self.optimizers = [
            torch.optim.SGD(self.student.parameters(), recipe.student_lr, momentum=0.9, weight_decay=5e-4),
            torch.optim.Adam([*self.policy.values(), *self.discriminator.values()], 0.01),
        ]
        self.of_generator = torch.optim.Adam(self.generator.parameters(), recipe.generator_lr)
        self.noise = torch.Generator().manual_seed(SMALL["seed"])
        self.rng = np.random.default_rng(SMALL["seed"])

    def images(self):
        shape = SMALL["batch_size"], SMALL["latent_dim"]
        return self.generator(torch.randn(shape, generator=self.noise, dtype=torch.float64))

    def step(self):
        draws = [(self.rng.random(6), self.rng.permutation(6)) for _ in range(5)]
        self.teacher.eval()
        for drawn in draws:
            losses = self.learn(self.images().detach(), *map(torch.from_numpy, drawn))
        images = self.images()
        adversarial = -(self.student(images) - self.teacher(images)).abs().mean()
        self.of_generator.zero_grad()
        adversarial.backward()
        self.of_generator.step()
        return losses

    def learn(self, x, uniform, perm):
        teacher, others = self.teacher(x).detach(), x[perm]
        odds = layers(self.policy, torch.cat([x, others], 1)).exp()
        alpha, width = odds[:, 0] / odds.sum(1), odds[:, 1] / odds.sum(1)
        lam = (alpha + width * uniform)[:, None, None, None]
        mixtures = lam * x + (1 - lam) * others
        shown = mixtures if self.labels == "mixed" else mixtures.detach()
        l1 = (self.student(x) - teacher).abs().mean()
        answer = self.student(shown)
        if self.labels == "mixed":
            labels = lam[:, :, 0, 0] * teacher + (1 - lam[:, :, 0, 0]) * teacher[perm]
        else:
            labels = self.teacher(shown).detach()
        if self.distance == "l1":
            virtual = (answer - labels).abs().mean()
        else:
            virtual = (answer.softmax(1) - labels.softmax(1)).square().mean()
        both = torch.cat([x, mixtures])
        is_image = torch.cat([torch.ones(6, 1), torch.zeros(6, 1)]).double()
        told = F.binary_cross_entropy(layers(self.discriminator, both).sigmoid(), is_image)
        virtual = virtual + self.weight * told
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        (l1 + 0.5 * virtual).backward()
        for optimizer in self.optimizers:
            optimizer.step()
        return l1.item(), virtual.item()


def farthest(trainer, loop):
    """The largest difference of the student, and of policy and discriminator, after two iterations of both."""
    for _ in range(2):
        losses, expected = trainer.step(), loop.step()
    assert [losses[f"student/{name}"].item() for name in ("l1", "virtual")] == pytest.approx(
        expected, rel=1e-6
    )
    (made,) = trainer.networks.term_modules
    pairs = [
        *zip(trainer.networks.student.parameters(), loop.student.parameters(), strict=True),
        *zip(made.region.parameters(), loop.policy.values(), strict=True),
        *zip(made.discriminator.parameters(), loop.discriminator.values(), strict=True),
    ]
    return max((own - other).abs().max().item() for own, other in pairs)


@pytest.mark.parametrize(
    ("labels", "distance"), [("mixed", "l1"), ("mixed", "softmax-mse"), ("teacher", "l1")]
)
def test_iterations_are_those_of_a_plain_loop(labels, distance):
    trainer = trainer_of(labels, distance)
    assert farthest(trainer, PlainLoop(trainer, labels, distance)) < 1e-8


def test_a_small_difference_is_seen():
    trainer = trainer_of()
    for _ in range(2):
        loop = PlainLoop(trainer, "mixed", "l1", intrusion=0.701)
        trainer.step()
        loop.step()
    (made,) = trainer.networks.term_modules
    assert (made.region[0].weight - loop.policy["0.weight"]).abs().max() > 1e-6


def state_of(trainer):
    return {"student": trainer.networks.student, "policy": trainer.networks.term_modules}


def test_a_run_that_is_resumed_ends_with_the_same_bits(tmp_path):
    def run(iterations, **settings):
        trainer = trainer_of(dtype=torch.float32, **settings)
        trainer.planned_iterations = 5
        trainer.fit(iterations)
        return trainer

    whole = run(5)
    run(2, out=tmp_path)
    resumed = run(3, out=tmp_path, resume=True)
    for network, other in zip(state_of(whole).values(), state_of(resumed).values(), strict=True):
        for name, value in network.state_dict().items():
            assert torch.equal(value, other.state_dict()[name]), name
    optimizers = [trainer.distiller.student_optimizer.state_dict() for trainer in (whole, resumed)]
    (state,), (other,) = (optimizer["beside"] for optimizer in optimizers)
    for index, values in state["state"].items():
        assert values["step"] == 25
        assert all(torch.equal(value, other["state"][index][key]) for key, value in values.items())


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_trains_the_policy_in_float32(precision):
    trainer = trainer_of(dtype=torch.float32, speed=Levers(precision=precision))
    before = copy.deepcopy(trainer.networks.term_modules.state_dict())
    losses = trainer.step()
    assert losses["student/virtual"].isfinite()
    for name, value in trainer.networks.term_modules.state_dict().items():
        assert value.dtype == torch.float32
        assert value.isfinite().all()
        assert not torch.equal(value, before[name]), name
    trainer.load_state_dict(trainer.state_dict())


def test_the_policy_keeps_its_rate_while_the_students_falls():
    trainer = trainer_of()
    trainer.planned_iterations = 4
    for _ in range(3):
        trainer.step()
    (beside,) = trainer.distiller.student_optimizer.state_dict()["beside"]
    assert [group["lr"] for group in beside["param_groups"]] == [0.01]
    assert trainer.distiller.student_optimizer.rate < trainer.recipe.student_lr
    policy = {id(p) for p in trainer.networks.term_modules.parameters()}
    groups = trainer.distiller.student_optimizer.optimizer.param_groups
    assert not policy & {id(p) for group in groups for p in group["params"]}


def test_the_generator_does_not_learn_from_a_policy():
    terms = "-l1 - 0.1*virtual(policy=learned)"
    with pytest.raises(
        UsageError, match=r"virtual learns at a rate of its own, in the student's steps: leave it out"
    ):
        DFADTrainer(*networks(), SHAPE, "dfad", generator_terms=terms, **SMALL)


def test_a_policy_is_recorded_and_what_is_not_learned_is_recorded_as_before():
    told = trainer_of().distiller.describe()["terms"]["student"][1]
    assert "policy='learned', intrusion=0.7, policy_lr=0.01)" in told
    before = "1 * VirtualInterpolation(alpha=1.0, labels='mixed', per_image=True, distance='l1') (constant)"
    assert METHODS["dfad-vi"].describe()["student"][1] == before
