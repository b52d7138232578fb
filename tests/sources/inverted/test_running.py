"""Images that are optimized themselves, in a run: what is refused, counted, shown and resumed."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from dfad_fast import DFADTrainer
from dfad_fast.errors import UsageError
from dfad_fast.methods import METHODS, Method
from dfad_fast.reporting.samples import label_samples
from dfad_fast.sources import Inverted, as_source
from dfad_fast.sources.inverted.jitter import draw_jitter
from dfad_fast.terms import KL, Label, Weighted

BANK = "bank(inverted(steps=3), images=12, views=2)"


def trainer_of(pair, name="adi", source=BANK, **settings):
    teacher, student = pair
    method = replace(METHODS[name], student_steps=2) if isinstance(name, str) else name
    settings = {"batch_size": 6, "speed": "exact", **settings}
    return DFADTrainer(teacher, copy.deepcopy(student), (1, 8, 8), method, source=source, **settings)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("inverted(steps=0)", "inverted: steps must be at least 1, got 0"),
        ("inverted(steps=4, half=4)", "half must be at least 0 and less than steps, which are 4, got 4"),
        ("inverted(shift=1.0)", "inverted: shift must be at least 0 and less than 1, got 1.0"),
        ("inverted(start=drawings)", "unknown start of inverted images 'drawings'"),
        ("inverted(fresh)", "inverted takes its images from no other source"),
    ],
)
def test_settings_that_cannot_be_are_refused(text, message):
    with pytest.raises(UsageError, match=message.replace("(", r"\(")):
        as_source(text)


def test_its_text_is_read_again():
    spec = Inverted(steps=4, half=1, shift=0.134, flip=False, lowest=False)
    assert as_source(str(spec)) == spec


def test_what_an_iteration_takes_is_counted(pair):
    """The first one has the round of the held-out images too."""
    trainer = trainer_of(pair, "adi", "inverted(steps=3)")
    state, size = trainer.distiller.state, 6
    trainer.step()
    first = state.generated_images, state.teacher_passes, state.student_passes
    assert first == (3 * size, (3 * 3 + 2) * size, (3 * 3 + 2) * size)
    trainer.step()
    assert state.generated_images - first[0] == trainer.images_per_iteration == 2 * size
    assert state.teacher_passes - first[1] == 2 * (3 + 1) * size


DRAWN = "inverted(steps=2, start=procedural)"


@pytest.mark.parametrize(
    "source", ["inverted(steps=3)", BANK, "0.5*inverted(steps=2) + 0.5*procedural", DRAWN]
)
def test_a_run_goes_on_to_the_same_bits(pair, source):
    whole, first = trainer_of(pair, source=source), trainer_of(pair, source=source)
    for trainer in (whole, first):
        trainer.planned_iterations = 3
        trainer.step()
    state = first.distiller.snapshot()
    first.step()  # leaves the state as it was
    resumed = trainer_of(pair, source=source)
    resumed.distiller.load_state_dict(state)
    for trainer in (whole, resumed):
        trainer.step()
        trainer.step()
    assert str(whole.distiller.source.state_dict()) == str(resumed.distiller.source.state_dict())
    weights = (t.networks.student.state_dict().values() for t in (whole, resumed))
    assert all(torch.equal(a, b) for a, b in zip(*weights, strict=True))
    assert torch.equal(whole.sample(8), resumed.sample(8))


def test_a_run_that_is_over_recalls_its_held_out_images(pair):
    trained, at_rest = trainer_of(pair), trainer_of(pair)
    before = at_rest.sample(6)
    trained.step()
    assert not torch.equal(trained.sample(6), before)
    at_rest.distiller.source.recall(trained.distiller.source.state_dict())
    assert torch.equal(at_rest.sample(6), trained.sample(6))


def test_figures_are_of_each_held_out_image_once(pair):
    trainer = trainer_of(pair)
    assert trainer.fit(1)["held_out_images"] == 6
    assert len(label_samples(trainer.distiller, None).teacher) == 6
    assert len(trainer.sample(8)) == 8


def test_images_become_what_their_labels_ask_for(pair):
    rows = (Weighted(1.0, Label()),)
    method = Method("labels", "here", (Weighted(1.0, KL()),), rows, student_steps=1, recipe="inversion")
    short, long = (
        float(trainer_of(pair, method, f"inverted(steps={steps}, lowest=False)").step()["generator/label"])
        for steps in (1, 60)
    )
    assert long < 0.7 * short


def test_images_start_from_drawings_that_fit_the_teacher(pair):
    """At a rate of almost 0 they stay drawings, and the passes that chose them count in the first iteration."""
    trainer, drawing = (trainer_of(pair, source=DRAWN, generator_lr=1e-30) for _ in range(2))
    shown = []
    trainer.networks.student.register_forward_pre_hook(lambda _, inputs: shown.append(inputs[0]))
    before = trainer.distiller.state.teacher_passes
    trainer.step()
    first = trainer.distiller.state.teacher_passes - before
    drawn = drawing.distiller.source._stock.take(18).split(6)
    apart = trainer.distiller.source._apart
    assert torch.equal(apart, drawn[0])
    assert apart.untyped_storage().nbytes() == 6 * 64 * 4, (
        "a checkpoint holds what it needs, not the whole stock"
    )
    assert any(torch.equal(images, drawn[2]) for images in shown)
    trainer.step()
    assert first > 2 * (trainer.distiller.state.teacher_passes - first - before)
    (notice,) = trainer.distiller.source.notices
    assert notice.startswith("inverted images start from procedural images: dead leaves")


def test_held_out_images_of_a_mixture_are_as_many_as_those_of_its_first_part(pair):
    trainer = trainer_of(pair, source="0.5*inverted(steps=2) + 0.5*procedural")
    trainer.step()
    assert trainer.distiller.held_out_count(100) == 3


def test_half_of_the_steps_show_half_of_the_resolution(pair):
    seen = []
    trainer = trainer_of(pair, "deepinversion", "inverted(steps=5, half=2)")
    trainer.networks.teacher.register_forward_pre_hook(lambda _, images: seen.append(images[0].shape[-1]))
    trainer.step()
    assert seen[:5] == [4, 4, 8, 8, 8]


def test_nothing_of_the_noise_is_left_between_pixels_that_no_step_tells_apart(pair):
    trainer = trainer_of(pair, "deepinversion", "inverted(steps=6, half=5, lowest=False)", generator_lr=1e-6)
    trainer.step()
    images = trainer.sample(6)
    pooled = nn.functional.avg_pool2d(images, 2)
    torch.testing.assert_close(images, nn.functional.interpolate(pooled, scale_factor=2), rtol=0, atol=1e-4)
    assert images.std() > 0.3


def test_half_is_refused_for_a_teacher_of_one_size(pair):
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(64, 4)).eval()
    with pytest.raises(
        UsageError, match="half shows the teacher images of 4 x 4, and it takes none of that size"
    ):
        trainer_of((teacher, pair[1]), "tv-inversion", "inverted(steps=5, half=2)")
    trainer_of((teacher, pair[1]), "tv-inversion", "inverted(steps=2)").step()


def test_a_teacher_without_batch_norm_is_refused_by_adi(pair):
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(64, 4)).eval()
    with pytest.raises(
        UsageError, match="reads the statistics of batch norm layers and this teacher has none"
    ):
        trainer_of((teacher, pair[1]), "adi")


def test_there_is_no_generator_to_average(pair):
    with pytest.raises(UsageError, match="generator_ema averages a generator, but none is trained here"):
        trainer_of(pair, generator_ema=0.9)


def test_a_jitter_rolls_and_mirrors_the_whole_batch():
    rng, images = np.random.default_rng(0), torch.arange(128.0).view(2, 1, 8, 8)
    seen = [draw_jitter(rng, (8, 8), 0.25, True) for _ in range(200)]
    assert {j.down for j in seen} == {j.right for j in seen} == set(range(-2, 3))
    assert {j.mirrored for j in seen} == {True, False}
    for jitter in seen[:10]:
        assert torch.equal(jitter(images).flatten(1).sort().values, images.flatten(1))
    still = draw_jitter(rng, (8, 8), 0.1, False)  # less than a pixel
    assert torch.equal(still(images), images)
