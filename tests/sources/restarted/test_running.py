"""The source in a run: what it refuses, its state, and the precision it works in."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from dfad_fast import DFADTrainer, Levers
from dfad_fast.errors import UsageError
from dfad_fast.methods import DFAD, METHODS
from dfad_fast.models import DFADGenerator, NoisyGenerator, PixelGenerator
from dfad_fast.sources import Restarted, as_source
from dfad_fast.terms import L1, BatchNormStatistics, Label, Weighted
from tests.small_networks import make_net

SHORT = {
    "fast-5": "restarted(steps=3)",
    "nayer": "restarted(steps=3, restart=whole, every=2, lr_noise=0, vectors=random)",
    "cmi": "restarted(steps=3, restart=whole, weights=normal, memory=0, features=16, compared=8)",
}


def trainer_of(pair, name="fast-5", source=None, **settings):
    teacher, student = pair
    method = replace(METHODS[name], student_steps=2) if isinstance(name, str) else name
    settings = {"latent_dim": 8, "batch_size": 6, "speed": "exact", **settings}
    source = source or SHORT.get(name, "restarted(steps=2)")
    return DFADTrainer(teacher, copy.deepcopy(student), (1, 8, 8), method, source=source, **settings)


def shown_to_student(trainer):
    """What the student's steps of an iteration see."""
    shown = []
    hook = trainer.networks.student.register_forward_pre_hook(
        lambda student, images: shown.append(images[0].detach().clone()) if student.training else None
    )
    trainer.step()
    hook.remove()
    return shown


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("restarted(restart=all)", "unknown restart 'all'"),
        ("restarted(weights=zero)", "unknown kind of weights 'zero'"),
        ("restarted(steps=0)", "restarted: steps must be at least 1, got 0"),
        ("restarted(lr_noise=-1)", "restarted: lr_noise must be at least 0, got -1"),
        ("restarted(features=-1)", "restarted: features must be at least 0, got -1"),
        ("restarted(memory=1.0)", "restarted: memory must be at least 0 and less than 1, got 1.0"),
        ("restarted(shift=-0.5)", "restarted: shift must be at least 0 and less than 1, got -0.5"),
        ("restarted(every=3)", "every is for restart=whole and first, got restart=meta"),
        ("restarted(fresh)", "restarted takes its images from no other source"),
    ],
)
def test_settings_that_cannot_be_are_refused(text, message):
    with pytest.raises(UsageError, match=message.replace("(", r"\(")):
        as_source(text)


def test_its_text_is_read_again():
    spec = Restarted(steps=4, restart="whole", vectors="some file.npy", lowest=False, memory=0.5)
    assert as_source(str(spec)) == spec


@pytest.mark.parametrize("name", SHORT)
def test_what_a_batch_takes_is_counted(pair, name):
    trainer = trainer_of(pair, name)
    trainer.step()
    state = trainer.distiller.state
    assert state.generated_images == trainer.images_per_iteration == 2 * 6
    passes_of_a_step = 2 if name == "cmi" else 1
    assert state.teacher_passes == 2 * (3 * passes_of_a_step + 1) * 6
    assert state.student_passes == 2 * (3 + 1) * 6


@pytest.mark.parametrize("inside", ["{}", "bank({}, images=12, views=2)"], ids=["alone", "in a bank"])
@pytest.mark.parametrize("name", SHORT)
def test_a_run_goes_on_to_the_same_bits(pair, name, inside):
    """A state between two restarts of nayer's generator; cmi's has former images to compare with."""
    source = inside.format(SHORT[name])
    whole, first = trainer_of(pair, name, source), trainer_of(pair, name, source)
    for trainer in (whole, first):
        trainer.planned_iterations = 4
        trainer.step()
    state = first.distiller.snapshot()
    first.step()  # leaves the state as it was
    resumed = trainer_of(pair, name, source)
    resumed.distiller.load_state_dict(state)
    for _ in range(2):
        expected, found = shown_to_student(whole), shown_to_student(resumed)
        assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
    for network in ("student", "generator"):
        both = (getattr(t.networks, network).state_dict() for t in (whole, resumed))
        assert all(torch.equal(a, b) for a, b in zip(*(d.values() for d in both), strict=True)), network
    assert str(whole.distiller.source.state_dict()) == str(resumed.distiller.source.state_dict())


def test_the_generator_is_the_sources_own_unless_one_is_named(pair):
    assert type(trainer_of(pair).networks.generator) is PixelGenerator
    noisy = trainer_of(pair, "nayer").networks.generator
    assert type(noisy) is NoisyGenerator
    assert noisy.noisy_weight.shape == (2, 8, 128)  # 6 images of 4 classes
    assert type(trainer_of(pair, generator="dfad").networks.generator) is DFADGenerator
    assert type(trainer_of(pair, "dfad").networks.generator) is PixelGenerator
    with pytest.raises(UsageError, match="vectors need its own generator"):
        trainer_of(pair, "nayer", generator="dfad")
    with pytest.raises(
        UsageError, match="at least 2 values, which choose class and noisy layer, got latent_dim 1"
    ):
        trainer_of(pair, "nayer", latent_dim=1)


def test_a_generator_of_new_weights_has_no_average(pair):
    with pytest.raises(UsageError, match="this source reinitializes it now and then: leave it out"):
        trainer_of(pair, "nayer", generator_ema=0.9)
    trainer_of(pair, generator_ema=0.9).step()


def test_pixels_are_normalized_as_the_teachers_images(pair):
    trainer = trainer_of(pair, image_mean=(0.25,), image_std=(0.5,))
    for images in (*shown_to_student(trainer), trainer.sample(4)):
        assert images.min() >= -0.5
        assert images.max() <= 1.5
    assert not (trainer.sample(4) == trainer.sample(4)[:1]).all()


@pytest.mark.parametrize("generator", ["conditional", "auto"])
def test_a_generator_that_is_told_a_class_makes_the_label(pair, generator):
    """The labels that the term reads are those that the generator makes of its noise, before and after its steps."""
    source = "restarted(steps=3, restart=none, vectors=random)" if generator == "auto" else None
    trainer = trainer_of(pair, generator=generator, source=source, batch_size=8)
    network, seen = trainer.networks.generator, []
    network.register_forward_pre_hook(lambda _, noise: seen.append(network.labels_of(noise[0]).tolist()))
    trainer.step()
    assert seen == [[0, 1, 2, 3, 0, 1, 2, 3]] * 6


def test_steps_lower_the_loss_and_the_lowest_is_kept(pair):
    rows = (Weighted(1.0, BatchNormStatistics()), Weighted(0.5, Label()))
    method = replace(DFAD, student=(Weighted(1.0, L1()),), generator=rows, student_steps=1)

    def loss_of(images):
        teacher = pair[0].double()
        layers, hooks = [], []
        for norm in (teacher[1], teacher[5]):
            hooks.append(norm.register_forward_pre_hook(lambda n, x: layers.append((n, x[0]))))
        with torch.no_grad():
            logits = teacher(images)
        for hook in hooks:
            hook.remove()
        distance = sum(
            (x.mean((0, 2, 3)) - n.running_mean).norm()
            + (x.var((0, 2, 3), unbiased=False) - n.running_var).norm()
            for n, x in layers
        )
        labels = torch.tensor([0, 1, 2, 3, 0, 1, 2, 3])
        return (distance + 0.5 * torch.nn.functional.cross_entropy(logits, labels)).item()

    def images_after(steps, **changes):
        spec = Restarted(steps=steps, restart="none", shift=0.0, flip=False, memory=0.0, **changes)
        networks = tuple(copy.deepcopy(network).double() for network in pair)
        trainer = trainer_of(networks, method, spec, batch_size=8, recipe="fast-5")
        trainer.distiller.recipe = replace(trainer.distiller.recipe, generator_lr=0.3)
        return shown_to_student(trainer)[0]

    last = [loss_of(images_after(steps, lowest=False)) for steps in range(1, 9)]
    kept = [loss_of(images_after(steps)) for steps in range(1, 9)]
    assert last[-1] < last[0]
    assert sorted(last, reverse=True) != last  # at this rate some steps go up
    assert kept == pytest.approx(np.minimum.accumulate(last), rel=1e-6)


@pytest.mark.parametrize("name", SHORT)
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_it_works_in_half_precision(pair, name, precision):
    trainer = trainer_of(pair, name, speed=Levers(precision=precision), recipe="cmi")
    before = [p.clone() for p in trainer.networks.generator.parameters()]
    for _ in range(2):
        losses = trainer.step()
    assert all(value.isfinite() for value in losses.values())
    after = list(trainer.networks.generator.parameters())
    assert all(p.isfinite().all() for p in after)
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    if name == "fast-5":
        meta = trainer.distiller.source.state_dict()["beginning"]["meta"]["weights"]
        moved = [(a - b).abs().max() for a, b in zip(meta, before, strict=True)]
        # Four rounds, each of one step of Adam of 3 times the rate.
        assert 3e-3 < max(moved) < 6 * 3e-3


def test_contrast_needs_a_source_that_keeps_features(pair):
    with pytest.raises(UsageError, match="contrast compares a generator's images with earlier ones"):
        trainer_of(pair, "cmi", "restarted(steps=2)")
    with pytest.raises(UsageError, match="choose restarted with features"):
        DFADTrainer(*pair, (1, 8, 8), "dfad", generator_terms="-l1 + contrast", latent_dim=8, batch_size=8)
    with pytest.raises(UsageError, match="leave it out of the student's terms"):
        trainer_of(pair, "cmi", student_terms="l1 + contrast")


class Halves(torch.nn.Module):
    """Looks at both halves of each image as if they were images."""

    def __init__(self):
        super().__init__()
        self.inside = make_net(4)

    def forward(self, x):
        both = self.inside(torch.cat([x[..., :4], x[..., 4:]]))
        return both[: len(x)] + both[len(x) :]


def test_contrast_needs_features_of_each_image(pair):
    with pytest.raises(UsageError, match="does not have one entry per image: leave contrast out"):
        trainer_of((Halves().eval(), pair[1]), "cmi")


def test_a_teacher_without_batch_norm_is_served_by_terms_that_need_none():
    torch.manual_seed(0)
    pair = make_net(6, batch_norm=False).eval(), make_net(4)
    with pytest.raises(
        UsageError, match="reads the statistics of batch norm layers and this teacher has none"
    ):
        trainer_of(pair)
    trainer = trainer_of(pair, generator_terms="0.5*label - 1.33*disagreement + 0.001*total_variation")
    assert "generator/label" in trainer.step()


@pytest.mark.parametrize("suffix", ["npy", "npz", "safetensors"])
def test_class_vectors_come_from_a_file(pair, tmp_path, suffix):
    path = tmp_path / f"vectors.{suffix}"
    vectors = np.random.default_rng(0).standard_normal((4, 7)).astype(np.float32)
    if suffix == "npy":
        np.save(path, vectors.astype(np.float64))
    elif suffix == "npz":
        np.savez(path, vectors=vectors, names=np.arange(4))
    else:
        save_file({"embeddings": torch.from_numpy(vectors)}, path)
    trainer = trainer_of(pair, "nayer", Restarted(steps=2, lr_noise=0.0, vectors=str(path)))
    assert torch.equal(trainer.networks.generator.vectors, torch.from_numpy(vectors))
    trainer.step()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no file of class vectors .*: expected an array .4, D."),
        (np.zeros((3, 7)), r"array \[3, 7\]: expected a vector for each of the teacher's 4 classes"),
        (np.zeros(4), r"array \[4\]: expected"),
        (np.full((4, 2), np.nan), "not finite"),
        (np.array([["a"]] * 4), "expected numbers"),
        (b"no array", "cannot be read as class vectors"),
    ],
)
def test_files_without_class_vectors_are_refused(pair, tmp_path, content, message):
    path = tmp_path / "vectors.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        np.save(path, content)
    with pytest.raises(UsageError, match=message):
        trainer_of(pair, "nayer", Restarted(vectors=str(path)))


def test_one_array_of_a_file_has_to_stand_out(pair, tmp_path):
    path = tmp_path / "vectors.npz"
    np.savez(path, a=np.zeros((4, 2)), b=np.zeros((4, 2)))
    with pytest.raises(UsageError, match="must hold one array, or one named vectors, got a, b"):
        trainer_of(pair, "nayer", Restarted(vectors=str(path)))
    with pytest.raises(UsageError, match=r"must be a .npy, .npz or .safetensors file, got .*/vectors\.csv"):
        trainer_of(pair, "nayer", Restarted(vectors="vectors.csv"))


def test_it_may_be_a_part_of_a_mixture(pair):
    source = "0.5*restarted(steps=2, restart=none) + 0.5*fresh"
    trainer = trainer_of(pair, source=source, batch_size=8, generator_terms="batch_norm - disagreement")
    assert [len(images) for images in shown_to_student(trainer)] == [8, 8]
    assert trainer.generated_images == 2 * 4 + 2 * 4 + 4
    with pytest.raises(UsageError, match="label reads the labels of a conditional generator's images"):
        trainer_of(pair, source=source, batch_size=8)
    trainer_of(pair, source=source, batch_size=8, generator="conditional").step()


@pytest.mark.parametrize("restart", ["meta", "whole"])
def test_what_it_would_undo_is_refused_or_left_out(pair, restart):
    source = f"restarted(steps=2, restart={restart})"
    with pytest.raises(
        UsageError, match=r"trains the run's generator by itself, .* got fresh and restarted.* restart=none"
    ):
        trainer_of(pair, source=f"fresh + bank({source})")
    settings = {"latent_dim": 8, "batch_size": 8}
    assert DFADTrainer(*pair, (1, 8, 8), "dfq", source=source, **settings).method.warm_up == 0
    assert DFADTrainer(*pair, (1, 8, 8), "dfq", source="restarted(restart=none)", **settings).method.warm_up


def test_a_method_without_a_generators_step_is_refused(pair):
    with pytest.raises(UsageError, match="its source restarted needs at least one generator step"):
        trainer_of(pair, replace(DFAD, generator=(), generator_steps=0))


@pytest.mark.parametrize("name", SHORT)
def test_networks_that_are_in_halves_themselves_are_shown_halves(pair, name):
    losses = trainer_of(tuple(copy.deepcopy(network).bfloat16() for network in pair), name).step()
    assert all(value.isfinite() for value in losses.values())


def test_vectors_are_found_from_another_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    spec = as_source("bank(restarted(vectors='vectors.npy'))")
    assert spec.of.vectors == str(tmp_path / "vectors.npy")
    assert spec.with_paths(lambda path: path + "x").of.vectors == str(tmp_path / "vectors.npyx")
    assert as_source("restarted(vectors=random)").with_paths(lambda path: "x").vectors == "random"


def test_levers_without_effect_are_told(pair):
    told = "student_batches: no effect, since the source makes its own batches"
    assert told in trainer_of(pair, speed="fast").notices
    assert told not in trainer_of(pair, "dfad", "fresh", speed="fast").notices
