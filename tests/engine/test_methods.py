"""ZSKT, DAFL and DFQ against loops written plainly for each: the same losses and weights, but for rounding."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.faithful import Features
from dfad_fast import DFADTrainer
from dfad_fast.engine.recipe import RECIPES, Recipe, choose_recipe
from dfad_fast.errors import UsageError
from dfad_fast.methods import METHODS, Method
from dfad_fast.models import DFADGenerator
from dfad_fast.models.zoo.resnet import ResNet
from dfad_fast.terms import L1, TERMS, Weighted, parse_terms
from tests.engine.test_parity import distance, lived_in, without_effect

SHAPE, CLASSES, BATCH, LATENT, SEED = (3, 8, 8), 10, 8, 16, 3
# So small that rounding is not enlarged before weights are compared.
RECIPE = Recipe("adam", student_lr=1e-5, generator_lr=1e-5, lr_decay="constant")


def trainer_of(method, **settings):
    torch.manual_seed(0)
    teacher = lived_in(ResNet(SHAPE, CLASSES, (1, 1), (16, 24)), SHAPE)
    student = ResNet(SHAPE, CLASSES, (1, 1), (16, 24))
    generator = DFADGenerator(SHAPE, LATENT, width=8)
    settings = {"recipe": RECIPE, "speed": "exact", **settings}
    return DFADTrainer(teacher, student, SHAPE, method, generator, LATENT, BATCH, SEED, **settings)


class Loop:
    """What the three loops share: copies of a trainer's networks, its noise, plain optimizers."""

    def __init__(self, trainer):
        networks = trainer.networks
        self.teacher, self.student, self.generator = (
            copy.deepcopy(network).to(memory_format=torch.contiguous_format)
            for network in (networks.teacher, networks.student, networks.generator)
        )
        self.generator.fused = False
        self.teacher.eval()
        self.student.train()
        self.generator.train()
        self._source = torch.Generator().manual_seed(SEED)
        self.train_student = torch.optim.Adam(self.student.parameters(), RECIPE.student_lr, foreach=False)
        self.train_generator = torch.optim.Adam(
            self.generator.parameters(), RECIPE.generator_lr, foreach=False
        )
        self.pairs = networks.tap_pairs

    def noise(self):
        return torch.randn(BATCH, LATENT, generator=self._source)


def divergence(teacher, student):
    p = teacher.softmax(1)
    return (p * (p.log() - student.softmax(1).log())).sum(1)


class ZSKT(Loop):
    """One generator's step, then ten of the student's on images of the same noise; gradients clipped to norm 5."""

    def __init__(self, trainer):
        super().__init__(trainer)
        self.teacher_features = Features(self.teacher, [t for t, _ in self.pairs])
        self.student_features = Features(self.student, [s for _, s in self.pairs])
        self.clipped = 0

    def descend(self, loss, optimizer, network):
        optimizer.zero_grad()
        loss.backward()
        norm = torch.linalg.vector_norm(
            torch.stack([torch.linalg.vector_norm(p.grad) for p in network.parameters()])
        )
        if norm > 5:
            self.clipped += 1
            for p in network.parameters():
                p.grad *= 5 / norm
        optimizer.step()

    def attention(self, features):
        maps = (features.relu() ** 2).mean(1).flatten(1)
        return maps / maps.norm(dim=1, keepdim=True)

    def step(self):
        noise = self.noise()
        images = self.generator(noise)
        adversarial = (divergence(self.teacher(images), self.student(images)) / CLASSES).mean()
        self.descend(-adversarial, self.train_generator, self.generator)
        images = self.generator(noise).detach()
        for _ in range(10):
            with torch.no_grad():
                teacher = self.teacher(images)
            student = self.student(images)
            kl = (divergence(teacher, student) / CLASSES).mean()
            attention = sum(
                ((self.attention(s) - self.attention(t)) ** 2).mean()
                for s, t in zip(self.student_features.take(), self.teacher_features.take(), strict=True)
            )
            self.descend(kl + 250 * attention, self.train_student, self.student)
        return {"generator/kl": adversarial, "student/kl": kl, "student/attention": attention}


class DAFL(Loop):
    """Both networks step together on one batch."""

    def __init__(self, trainer):
        super().__init__(trainer)
        self.features = Features(self.teacher, [t for t, _ in self.pairs])

    def step(self):
        images = self.generator(self.noise())
        teacher = self.teacher(images)
        student = self.student(images.detach())
        one_hot = F.cross_entropy(teacher, teacher.max(1).indices)
        mean = teacher.softmax(1).mean(0)
        information = (mean * mean.log10()).sum()
        activation = self.features.take()[-1].relu().abs().mean()
        kl = divergence(teacher.detach(), student).mean()
        self.train_generator.zero_grad()
        self.train_student.zero_grad()
        (0.05 * one_hot + 5 * information - 0.01 * activation + kl).backward()
        self.train_generator.step()
        self.train_student.step()
        return {
            "generator/one_hot": one_hot,
            "generator/balance": information * torch.log(torch.tensor(10.0)),
            "generator/activation": activation,
            "student/kl": kl,
        }


class DFQ(Loop):
    """Ten student's steps on fresh images, then a generator's step held to the teacher's batch norm statistics."""

    def __init__(self, trainer):
        super().__init__(trainer)
        self.seen = []
        for layer in self.teacher.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.register_forward_pre_hook(lambda layer, inputs: self.seen.append((layer, inputs[0])))

    def statistics(self):
        total = 0.0
        for layer, x in self.seen:
            rows = x.transpose(0, 1).flatten(1)
            made = torch.distributions.Normal(rows.mean(1), (rows.var(1, correction=0) + 1e-5).sqrt())
            real = torch.distributions.Normal(layer.running_mean, (layer.running_var + 1e-5).sqrt())
            total = total + torch.distributions.kl_divergence(made, real).sum()
        return total

    def step(self):
        for _ in range(10):
            images = self.generator(self.noise()).detach()
            kl = divergence(self.teacher(images).detach(), self.student(images)).mean()
            self.train_student.zero_grad()
            kl.backward()
            self.train_student.step()
        images = self.generator(self.noise())
        self.seen.clear()
        teacher = self.teacher(images)
        adversarial = divergence(teacher, self.student(images)).mean()
        statistics = self.statistics()
        p = teacher.softmax(1)
        entropy = -(p * p.log()).sum(1).mean()
        balance = (p.mean(0) * p.mean(0).log()).sum()
        self.train_generator.zero_grad()
        (-adversarial + 0.01 * statistics + entropy + balance).backward()
        self.train_generator.step()
        return {
            "student/kl": kl,
            "generator/kl": adversarial,
            "generator/batch_norm_kl": statistics,
            "generator/entropy": entropy,
            "generator/balance": balance,
        }


@pytest.mark.parametrize(("name", "loop"), [("zskt", ZSKT), ("dafl", DAFL), ("dfq", DFQ)])
def test_iterations_are_those_of_a_plain_loop(name, loop):
    trainer = trainer_of(name)
    plain = loop(trainer)
    start = {key: copy.deepcopy(getattr(plain, key).state_dict()) for key in ("student", "generator")}
    for _ in range(3):
        got, want = trainer.step(), plain.step()
        assert got.keys() == want.keys()
        for key, value in want.items():
            assert got[key].item() == pytest.approx(value.item(), rel=1e-3), key
    for key in ("student", "generator"):
        network = getattr(plain, key)
        weights, expected = getattr(trainer.networks, key).state_dict(), network.state_dict()
        skipped = without_effect(network)
        parameters = [n for n, _ in network.named_parameters() if n not in skipped]
        moved = distance(expected, start[key], parameters)
        assert 0 < distance(weights, expected, parameters) <= 0.02 * moved, key
        for n, _ in network.named_buffers():
            if n not in skipped:
                torch.testing.assert_close(weights[n], expected[n], rtol=1e-3, atol=1e-3)
    if name == "zskt":
        assert plain.clipped > 0


@pytest.mark.parametrize(("name", "batches"), [("zskt", 2), ("dafl", 1), ("dfq", 11), ("dfad", 6)])
def test_images_are_counted_as_they_are_generated(name, batches):
    trainer = trainer_of(name)
    made = []
    trainer.networks.generator.register_forward_hook(lambda _, inputs, __: made.append(len(inputs[0])))
    for _ in range(2):
        trainer.step()
    assert trainer.generated_images == sum(made) == 2 * batches * BATCH
    assert trainer.images_per_iteration == batches * BATCH


def test_only_the_generator_is_trained_in_the_warm_up():
    trainer = trainer_of("dfq")
    trainer.planned_iterations = 40  # of which 5 percent
    before = copy.deepcopy(trainer.networks.student.state_dict())
    generator = copy.deepcopy(trainer.networks.generator.state_dict())
    for _ in range(2):
        assert not any(name.startswith("student/") for name in trainer.step())
    parameters = dict(trainer.networks.student.named_parameters())
    assert all(torch.equal(parameters[name], before[name]) for name in parameters)
    assert distance(trainer.networks.generator.state_dict(), generator, ["project.0.weight"]) > 0
    assert trainer.generated_images == 2 * BATCH
    assert "student/kl" in trainer.step()
    assert trainer.generated_images == 13 * BATCH


def test_a_plan_that_grows_does_not_go_back_to_the_warm_up():
    trainer = trainer_of("dfq")
    trainer.fit(4)
    counts = [record["generated_images"] for record in trainer.history]
    trainer.fit(56)
    counts += [record["generated_images"] for record in trainer.history[len(counts) :]]
    assert counts == [(1 + 11 * i) * BATCH for i in range(60)]


def test_without_a_plan_there_is_no_warm_up_later_either():
    trainer = trainer_of("dfq")
    trainer.step()
    trainer.planned_iterations = 100
    trainer.step()
    assert trainer.generated_images == 22 * BATCH


def test_a_warm_up_that_was_interrupted_goes_on():
    trainer, other = trainer_of("dfq"), trainer_of("dfq")
    trainer.planned_iterations = 40
    trainer.step()
    other.load_state_dict(trainer.state_dict())
    other.planned_iterations = 400
    for _ in range(2):
        losses = [t.step() for t in (trainer, other)]
        assert losses[0].keys() == losses[1].keys()
        assert trainer.generated_images == other.generated_images
    assert trainer.generated_images == 13 * BATCH


def test_images_are_turned_into_iterations_with_the_warm_up():
    trainer = trainer_of("dfq")
    iterations = trainer.iterations_for(2000 * BATCH)
    trainer.planned_iterations = iterations
    warm = -(-iterations * 5 // 100)
    assert abs(warm + 11 * (iterations - warm) - 2000) <= 11
    assert trainer_of("zskt").iterations_for(100 * BATCH) == 50
    assert trainer_of("zskt").iterations_for(1) == 1


@pytest.mark.parametrize("side", ["student", "generator"])
def test_a_table_without_rows_is_refused(side):
    with pytest.raises(UsageError, match=f"the {side} has steps but no term"):
        trainer_of("dfad", **{f"{side}_terms": ()})


def test_who_is_not_read_is_not_asked():
    trainer = trainer_of("dafl")
    asked = []
    trainer.networks.student.register_forward_hook(lambda *_: asked.append(True))
    trainer.step()
    assert len(asked) == 1


def test_a_method_brings_its_recipe_and_a_named_one_replaces_it():
    student = nn.Sequential(nn.BatchNorm2d(3))
    assert choose_recipe("auto", student, METHODS["zskt"].recipe) == RECIPES["zskt"]
    assert choose_recipe("sgd", student, METHODS["zskt"].recipe) == RECIPES["sgd"]
    assert choose_recipe("auto", student, METHODS["dafl"].recipe) == RECIPES["sgd"]
    assert trainer_of("dfq", recipe="auto").recipe.generator_momentum == 0.5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batches": "stale"}, "unknown source 'stale'"),
        ({"batches": "generator's", "generator_steps": 0}, "needs at least one generator step"),
        ({"warm_up": 1.0}, "warm_up must be at least 0 and less than 1"),
        ({"clip_norm": 0.0}, "clip_norm must be > 0"),
        ({"student_steps": -1}, "steps must be at least 0 and not all 0"),
        ({"student_steps": 0, "generator_steps": 0}, "steps must be at least 0 and not all 0"),
        ({"warm_up": 0.1, "generator_steps": 0}, "a warm-up needs at least one generator step"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused(settings, message):
    with pytest.raises(UsageError, match=message):
        Method("own", "", (Weighted(1.0, L1()),), (Weighted(-1.0, L1()),), **settings)


@pytest.mark.parametrize("terms", ["0*l1", "0*l1 + 0*kl", "0*l1 + entropy"])
def test_terms_that_train_nothing_are_refused(terms):
    trained = parse_terms("l1", TERMS)
    with pytest.raises(
        UsageError, match=r"every term that would train the student \(l1.*has weight 0: give one"
    ):
        Method("own", "", parse_terms(terms, TERMS), trained)
    if "entropy" not in terms:
        with pytest.raises(UsageError, match="would train the generator"):
            Method("own", "", trained, parse_terms(terms, TERMS))
    assert Method("own", "", parse_terms(f"{terms} + l1", TERMS), trained, generator_steps=0).rows
