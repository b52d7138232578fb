"""Generators that are trained first, in a run: what is refused, counted, shown and resumed."""

import copy
import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from dfad_fast import DFADTrainer
from dfad_fast.errors import UsageError
from dfad_fast.methods import METHODS
from dfad_fast.models import DecodedGenerators, DFADGenerator
from dfad_fast.models.generators.decoded import Decoder
from dfad_fast.sources import TrainedFirst, as_source
from dfad_fast.terms import Diversity, Probe, Reconstruction, decoding

SHAPE = (1, 8, 8)
PLAIN = "trained_first(steps=3, generators=2)"
BANK = f"bank({PLAIN}, images=12, views=2, new=0)"


def trainer_of(pair, source=PLAIN, **settings):
    teacher, student = pair
    method = replace(METHODS["kegnet"], student_steps=2, generator_steps=2)
    settings = {"batch_size": 6, "latent_dim": 8, "speed": "exact", **settings}
    return DFADTrainer(teacher, copy.deepcopy(student), SHAPE, method, source=source, **settings)


def weights(module):
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def made(count, latent_dim=8):
    return DecodedGenerators(
        [DFADGenerator(SHAPE, 4 + latent_dim - 2, width=4) for _ in range(count)],
        [Decoder(SHAPE, latent_dim - 2) for _ in range(count)],
        4,
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trained_first(steps=0)", "trained_first: steps must be at least 1, got 0"),
        ("trained_first(generators=0)", "trained_first: generators must be at least 1, got 0"),
        ("trained_first(fresh)", "trained_first takes its images from no other source"),
    ],
)
def test_settings_that_cannot_be_are_refused(text, message):
    with pytest.raises(UsageError, match=message):
        as_source(text)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"latent_dim": 2}, "at least 3 values, which say class and generator .* got latent_dim 2"),
        ({"generator": "conditional"}, "trains generators with decoders, .* leave --generator out"),
        ({"generator": made(3)}, "generators is 2, and the generator that was given has 3"),
        (
            {"source": "0.5*trained_first + 0.5*fresh"},
            "trained_first trains the run's generator by itself, .* leave one out$",
        ),
        (
            {"source": "fresh", "generator": "conditional"},
            "choose a source with decoders, such as trained_first",
        ),
        ({"student_terms": "kl + diversity"}, "leave it out of the student's terms"),
    ],
)
def test_what_does_not_fit_together_is_refused(pair, settings, message):
    with pytest.raises(UsageError, match=message):
        trainer_of(pair, **settings)


def test_decoders_are_as_many_as_generators():
    with pytest.raises(UsageError, match="a decoder for each, got 2 and 1"):
        DecodedGenerators([DFADGenerator(SHAPE, 10)] * 2, [Decoder(SHAPE, 6)], 4)


def test_its_text_is_read_again():
    spec = TrainedFirst(steps=7, generators=3)
    assert as_source(str(spec)) == spec


def test_generators_are_trained_first_and_then_the_student(pair):
    trainer = trainer_of(pair, generator=made(2))
    networks, state, size = trainer.networks, trainer.distiller.state, 6

    def now():
        return weights(networks.generator), weights(networks.student)

    seen, passes = [now()], []
    for _ in range(4):
        trainer.step()
        seen.append(now())
        passes.append((state.generated_images, state.teacher_passes, state.student_passes))
    generators, students = (
        [not torch.equal(a, b) for a, b in pairwise(part)] for part in zip(*seen, strict=True)
    )
    assert generators == [True, True, False, False]
    assert students == [False, False, True, True]
    # Two steps of two generators, the one that is left, and then two of the student.
    assert passes == [(4 * size, 4 * size, 0), (6 * size, 6 * size, 0)] + [
        ((6 + 2 * i) * size, (6 + 2 * i) * size, 2 * i * size) for i in (1, 2)
    ]
    assert trainer.images_per_iteration == 2 * size


def test_without_student_steps_of_its_own_a_bank_is_filled_once(pair):
    trainer = trainer_of(pair, BANK)
    for _ in range(4):
        trainer.step()
    assert trainer.distiller.state.generated_images == (6 + 2) * 6
    assert trainer.distiller.state.student_passes == 2 * 2 * 6


@pytest.mark.parametrize("source", [PLAIN, BANK, "0.5*" + PLAIN + " + 0.5*procedural"])
@pytest.mark.parametrize("stopped_after", [1, 3])
def test_a_run_goes_on_to_the_same_bits(pair, source, stopped_after):
    whole, first = trainer_of(pair, source), trainer_of(pair, source)
    for trainer in (whole, first):
        trainer.planned_iterations = 5
        for _ in range(stopped_after):
            trainer.step()
    state = first.distiller.snapshot()
    first.step()  # leaves the state as it was
    resumed = trainer_of(pair, source)
    resumed.distiller.load_state_dict(state)
    for trainer in (whole, resumed):
        while trainer.iteration < 5:
            trainer.step()
    assert str(whole.distiller.source.state_dict()) == str(resumed.distiller.source.state_dict())
    for name in ("student", "generator"):
        assert torch.equal(*(weights(getattr(trainer.networks, name)) for trainer in (whole, resumed)))
    assert torch.equal(whole.sample(8), resumed.sample(8))


def test_the_noise_says_label_and_generator():
    generators, noise = made(3).train(), torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    images = generators(noise)
    owners = (torch.distributions.Normal(0.0, 1.0).cdf(noise[:, 1]) * 3).long()
    assert set(owners.tolist()) == {0, 1, 2}
    for member, inside in enumerate(generators.members):
        own = inside(noise[:, 2:], generators.labels_of(noise))
        assert torch.equal(images[owners == member], own[owners == member])


def test_terms_are_least_for_noise_that_is_found_and_images_that_differ(monkeypatch):
    noise, images = torch.tensor([[0.0], [1.0]]), torch.tensor([0.0, 3.0]).view(2, 1, 1, 1)

    def probe(images, found):
        return Probe(images, noise, noise, lambda x: x, decoded=(noise, found))

    assert float(Reconstruction()(probe(images, noise))) == 0.0
    assert float(Reconstruction()(probe(images, noise + 2.0))) == 4.0
    assert float(Diversity()(probe(images, noise))) == pytest.approx(math.exp(-1.5))
    monkeypatch.setattr(decoding, "_MOST_AT_ONCE", 2)  # a row at a time
    assert float(Diversity()(probe(images, noise))) == pytest.approx(math.exp(-1.5))
    assert float(Diversity()(probe(images[:1].expand(2, 1, 1, 1), noise))) == 1.0


def test_images_that_are_alike_have_a_gradient():
    images = torch.ones(4, 1, 2, 2, requires_grad=True)
    noise = torch.arange(8.0).view(4, 2)
    Diversity()(Probe(images, noise, noise, lambda x: x, decoded=(noise, noise))).backward()
    assert images.grad.isfinite().all()
