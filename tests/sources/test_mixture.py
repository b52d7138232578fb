"""A mixture of sources: shares of each batch, over the run, and that it is resumed."""

import pytest
import torch

from dfad_fast.errors import UsageError
from dfad_fast.sources import SOURCES, Fresh, Mixture, Share
from dfad_fast.sources.mixture import shared_out
from tests.sources.test_sources import Noise, trainer_of


@pytest.fixture(autouse=True)
def _known(monkeypatch):
    monkeypatch.setitem(SOURCES, "noise", Noise)


@pytest.mark.parametrize(
    ("images", "weights", "sizes"),
    [
        (8, [1, 1], [4, 4]),
        (8, [0.5, 0.25], [5, 3]),
        (9, [1, 1], [5, 4]),
        (8, [1, 0], [8, 0]),
        (8, [9, 1], [8, 0]),  # one image is too few
        (8, [3, 1], [6, 2]),
        (3, [1, 1, 1], [3, 0, 0]),
    ],
)
def test_a_batch_is_shared_out_by_weight(images, weights, sizes):
    assert shared_out(images, weights) == sizes


def shown_to_student(trainer):
    shown = []
    hook = trainer.networks.student.register_forward_pre_hook(lambda _, inputs: shown.append(inputs[0]))
    trainer.step()
    hook.remove()
    return shown


def test_each_batch_holds_each_sources_part(pair):
    trainer = trainer_of(pair, source="noise(deviation=0.0) + 3*noise(deviation=100.0)")
    batches = shown_to_student(trainer)
    assert len(batches) == 5
    for images in batches:
        assert images[:2].abs().max() == 0
        assert images[2:].std() > 50


def test_the_teachers_answers_are_those_to_the_images(pair):
    """The features of all stages too."""
    trainer = trainer_of(pair, "dfad-ar", source="noise + fresh")
    found = []
    original = trainer.distiller.prober.probe

    def probe(images, view, rows, *others):
        if view.features and len(images) == 8:
            found.append((images, view))
        return original(images, view, rows, *others)

    trainer.distiller.prober.probe = probe
    trainer.step()
    assert len(found) == 5
    for images, view in found:
        again = trainer.distiller.prober.look(images, trainer.method.student, graph=False)
        torch.testing.assert_close(view.logits, again.logits)
        assert len(view.features) == len(again.features) > 0
        for own, other in zip(view.features, again.features, strict=True):
            torch.testing.assert_close(own, other)


def test_shares_go_over_the_run_as_their_schedules_say(pair):
    trainer = trainer_of(pair, source="noise(deviation=0.0, schedule=linear) + fresh")
    trainer.planned_iterations = 4
    parts, made = [], []
    for _ in range(4):
        before = trainer.generated_images
        images = shown_to_student(trainer)[0]
        parts.append(int((images.flatten(1).abs().sum(1) == 0).sum()))
        made.append(trainer.generated_images - before)
    assert parts == [4, 3, 3, 2]  # of 8, by weights 1, .75, .5 and .25 beside 1
    assert made == [6 * (8 - part) for part in parts]


def test_a_generators_part_learns_from_batches_of_its_size(pair):
    trainer = trainer_of(pair, source="noise + fresh")
    shown = []
    trainer.networks.generator.register_forward_pre_hook(lambda _, inputs: shown.append(len(inputs[0])))
    losses = trainer.step()
    assert shown == [4] * 6
    assert "generator/l1" in losses
    assert trainer.generated_images == 6 * 4 == trainer.images_per_iteration


def test_a_run_goes_on_as_if_it_had_not_been_interrupted(pair, tmp_path):
    settings = {"source": "noise(schedule=linear) + fresh", "method": "dfad-ar-vi"}
    whole = trainer_of(pair, **settings)
    whole.fit(4)
    half = trainer_of(pair, out=tmp_path, **settings)
    half.planned_iterations = 4
    half.fit(2)
    resumed = trainer_of(pair, out=tmp_path, resume=True, **settings)
    resumed.fit(2)
    for key, value in whole.networks.student.state_dict().items():
        assert torch.equal(resumed.networks.student.state_dict()[key], value), key
    assert resumed.generated_images == whole.generated_images


def test_a_student_that_reads_statistics_is_refused(pair):
    with pytest.raises(UsageError, match="no batch norm statistics of the whole batch"):
        trainer_of(pair, source="noise + fresh", student_terms="l1 + batch_norm")


def test_parts_of_a_kind_make_images_of_their_own(pair):
    for images in shown_to_student(trainer_of(pair, source="noise + noise")):
        assert not torch.equal(images[:4], images[4:])


def test_a_runs_length_counts_the_shares_of_the_whole_run(pair):
    """All images of the first tenth are noise, which counts none; then the generator makes 6 batches of 8."""
    trainer = trainer_of(pair, source="noise(schedule=warmup) + fresh(schedule=after_warmup)")
    assert trainer.images_per_iteration == round(0.9 * 48)
    assert trainer.iterations_for(430) == 10
    assert shown_to_student(trainer)[0].shape == (8, 1, 8, 8)
    assert trainer.generated_images == 0


def test_a_bank_in_a_mixture_counts_its_part(pair):
    assert trainer_of(pair, source="noise + bank(fresh, images=32, views=0)").images_per_iteration < 6 * 8


@pytest.mark.parametrize("schedule", ["", "(schedule=linear)"])
def test_a_share_of_no_images_is_refused(pair, schedule):
    with pytest.raises(UsageError, match="fewer than 2 images in a batch of 8 at any time of the run"):
        trainer_of(pair, source=f"0.1*noise{schedule} + fresh")


def test_a_mixture_in_a_mixture_is_refused():
    with pytest.raises(UsageError, match="a share must be of one source, got the mixture"):
        Mixture((Share(1.0, Mixture((Share(1.0, Fresh()), Share(2.0, Noise())))), Share(1.0, Noise())))


def test_steps_beyond_the_plan_keep_the_last_shares(pair):
    trainer = trainer_of(pair, source="noise(deviation=0.0, schedule=linear) + 3*fresh(schedule=linear)")
    trainer.planned_iterations = 1
    trainer.step()
    assert (shown_to_student(trainer)[0].flatten(1).abs().sum(1) == 0).sum() == 2
