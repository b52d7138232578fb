"""Images optimized to be as a record says: against a plain loop, resumed, and refused."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dfad_fast import DFADTrainer, Ensemble, UsageError
from dfad_fast.engine.iterations import source_at_rest
from dfad_fast.engine.recipe import Recipe
from dfad_fast.methods import METHODS
from dfad_fast.networks.levers import Levers
from dfad_fast.runs.whole_files import write_tensors
from dfad_fast.sources import ImageForm
from dfad_fast.sources.recorded import Recorded
from dfad_fast.sources.recorded.measuring import Detail, measure_record
from dfad_fast.sources.recorded.targets import Targets
from tests.small_networks import make_net

SHAPE = (1, 8, 8)
RATES = Recipe("sgd", student_lr=1e-2, student_weight_decay=0.0, lr_decay="constant")
NORMALIZED = {"image_mean": (0.5,), "image_std": (0.25,)}


def trainer_of(pair, file, method="dream", spec=None, **further):
    source = spec or Recorded(str(file), steps=5)
    fixed = {"batch_size": 8, "latent_dim": 4, "recipe": RATES, "student_steps": 1, **NORMALIZED}
    return DFADTrainer(*pair, SHAPE, method=method, source=source, **{**fixed, **further})


class PlainRound:
    """A batch of images and a student's step on it, written without the library but for its numbers."""

    def __init__(self, trainer, record, by_class, layers):
        networks = trainer.networks
        self.teacher, self.student = copy.deepcopy(networks.teacher).eval(), copy.deepcopy(networks.student)
        self.record, self.by_class, self.layers = record, by_class, layers
        self.rng = np.random.default_rng([trainer.seed, 41])
        self.optimizer = torch.optim.SGD(self.student.parameters(), 1e-2, momentum=0.9)

    def wanted(self, count):
        record, known = self.record, np.flatnonzero(self.record.class_counts.numpy())
        labels = self.rng.permutation(np.resize(self.rng.permutation(known), count))
        if self.by_class:
            noise = self.rng.standard_normal((count, record.class_means.shape[1]), dtype=np.float32)
            drawn = [
                record.class_means[label] + record.class_variances[label].sqrt() * torch.from_numpy(row)
                for label, row in zip(labels, noise, strict=True)
            ]
            return torch.stack(drawn).clamp(min=0)
        clusters = np.zeros(count, dtype=int)
        for label in known:
            own = [i for i in range(len(record.cluster_classes)) if record.cluster_classes[i] == label]
            sizes = record.cluster_counts[own].double().numpy()
            places = np.flatnonzero(labels == label)
            clusters[places] = self.rng.choice(own, len(places), p=sizes / sizes.sum())
        noise = self.rng.standard_normal((count, record.directions.shape[1]), dtype=np.float32)
        drawn = []
        for cluster, row in zip(clusters, noise, strict=True):
            steps = torch.from_numpy(row) * record.deviations[cluster]
            drawn.append(record.cluster_means[cluster] + record.directions[cluster].T @ steps)
        return torch.stack(drawn).clamp(min=0)

    def images(self, count, steps):
        wanted = self.wanted(count)
        noise = self.rng.standard_normal((count, *SHAPE), dtype=np.float32)
        x = torch.from_numpy(noise).clamp(-2, 2).requires_grad_()
        adam = torch.optim.Adam([x], lr=0.1)
        for _ in range(steps):
            adam.zero_grad()
            first = self.teacher[:2](x)
            second = self.teacher[4:6](self.teacher[2:4](first.clone()))
            features = self.teacher[6:9](second.clone())
            loss = ((features - wanted) ** 2).mean() / self.record.scale**2
            for stage, (mean, variance) in zip((first, second), self.record.layers, strict=True):
                apart = (stage.mean((0, 2, 3)) - mean).norm() + (
                    stage.var((0, 2, 3), correction=0) - variance
                ).norm()
                loss = loss + self.layers * apart
            neighbors = (x[..., 1:] - x[..., :-1]).abs().mean() + (
                x[..., 1:, :] - x[..., :-1, :]
            ).abs().mean()
            (loss + 0.1 * neighbors).backward()
            adam.step()
            x.data.clamp_(-2, 2)
        return x.detach()

    def step(self):
        x = self.images(8, 5)
        self.student.train()
        self.optimizer.zero_grad()
        with torch.no_grad():
            target = F.softmax(self.teacher(x) / 4, 1)
        (16 * F.kl_div(F.log_softmax(self.student(x) / 4, 1), target, reduction="batchmean")).backward()
        self.optimizer.step()


@pytest.mark.parametrize(
    ("method", "draws", "layers"), [("dream", "clusters", 0.0), ("dfkd", "classes", 0.1)]
)
def test_a_round_follows_a_plain_loop(pair, file, record, method, draws, layers):
    spec = Recorded(str(file), draws=draws, layers=layers, steps=5)
    trainer = trainer_of(pair, file, method, spec)
    plain = PlainRound(trainer, record, draws == "classes", layers)
    for _ in range(2):
        losses = trainer.step()
        plain.step()
        assert math.isfinite(losses["images/features"])
        assert ("images/layers" in losses) == (method == "dfkd")
    for got, want in zip(trainer.networks.student.parameters(), plain.student.parameters(), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-4)


def test_optimized_images_have_the_features_that_were_drawn(pair, file):
    losses = trainer_of(pair, file, spec=Recorded(str(file), steps=1, smooth=0.0)).step()
    later = trainer_of(pair, file, spec=Recorded(str(file), steps=150, smooth=0.0)).step()
    assert later["images/features"] < 0.3 * losses["images/features"]


@pytest.mark.parametrize("method", ["dream", "dfkd"])
def test_a_run_resumes_to_the_bit(pair, file, tmp_path, method):
    draws = "" if method == "dream" else "draws=classes, layers=0.1, "
    source = f"bank(recorded(path='{file}', {draws}steps=3), images=32, prefill=16)"

    def run(folder, iterations, **further):
        networks = copy.deepcopy(pair)
        trainer = trainer_of(networks, file, method, source, out=folder, student_steps=2, **further)
        trainer.planned_iterations = 4
        trainer.fit(iterations)
        return trainer.networks.student.state_dict()

    whole = run(tmp_path / "whole", 4)
    run(tmp_path / "parts", 2)
    resumed = run(tmp_path / "parts", 2, resume=True)
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_a_run_does_not_go_on_with_another_record(pair, images, file, tmp_path):
    def run(**further):
        trainer_of(copy.deepcopy(pair), file, out=tmp_path / "run", **further).fit(1)

    run()
    other = measure_record(pair[0], SHAPE, [images[:100]], Detail(least=4))
    write_tensors(file, other.tensors(), other.header())
    with pytest.raises(UsageError, match="the record that its source reads has changed"):
        run(resume=True)


def test_a_record_without_stages_holds_none_to_them(pair, file, record):
    bare = replace(record, about=replace(record.about, taps=()), layers=[])
    write_tensors(file, bare.tensors(), bare.header())
    with pytest.raises(UsageError, match="the record has no stages"):
        trainer_of(pair, file, spec=Recorded(str(file), layers=1.0))


def test_held_out_images_are_the_same_each_time_and_cost_no_pass(pair, file):
    trainer = trainer_of(pair, file)
    first = trainer.sample(12)
    trainer.step()
    assert torch.equal(trainer.sample(12), first)
    assert trainer.distiller.state.teacher_passes == 8 * 5 + 8


def test_an_ensemble_is_read_in_its_first_member(pair, file):
    teacher, student = pair
    torch.manual_seed(7)
    together = trainer_of((Ensemble([teacher, make_net(6)]), student), file)
    assert together.step()["images/features"].isfinite()


@pytest.mark.parametrize("layers", [0.0, 0.1])
def test_the_other_members_of_an_ensemble_answer_the_finished_images_alone(pair, file, layers):
    teacher, student = pair
    torch.manual_seed(7)
    trainer = trainer_of(
        (Ensemble([teacher, make_net(6)]), student), file, spec=Recorded(str(file), steps=5, layers=layers)
    )
    seen = []
    for ensemble in {trainer.networks.teacher, trainer.distiller.prober.quick_teacher}:
        ensemble.members[1].register_forward_hook(lambda *_: seen.append("other"))
    trainer.step()
    assert seen == ["other"]


def test_small_gradients_do_not_vanish_in_float16(pair, file, record):
    """Adam moves each pixel at its rate, however small its gradient, where there is one."""
    wide = replace(record, class_variances=1e8 * record.class_variances, deviations=1e4 * record.deviations)
    write_tensors(file, wide.tensors(), wide.header())

    def moved(precision):
        spec = Recorded(str(file), steps=1, smooth=0.0)
        trainer = trainer_of(pair, file, spec=spec, speed=Levers(precision=precision))
        (images,) = trainer.distiller.source.held_out(64, 64)
        begun = np.random.default_rng([trainer.seed, 42])
        Targets(wide, "clusters").draw(begun, 64)
        noise = torch.from_numpy(begun.standard_normal((64, *SHAPE), dtype=np.float32)).clamp(-2, 2)
        return ((images - noise).abs() > 0.01).float().mean().item()

    assert moved("float16") > 0.9 * moved("float32") > 0.5


def test_a_source_at_rest_reads_the_record_once_it_makes_images(pair, file):
    networks = trainer_of(pair, file).networks
    form = ImageForm(SHAPE, (0.5,), (0.25,))
    method = replace(METHODS["dream"], batches=Recorded(str(file), steps=1))
    rested = source_at_rest(networks, method, form, 8, 0)
    assert len(next(rested.held_out(4, 4))) == 4
    file.unlink()
    rested = source_at_rest(networks, method, form, 8, 0)
    with pytest.raises(UsageError, match="no record"):
        rested.held_out(4, 4)


def test_the_record_of_another_teacher_is_refused(pair, file):
    with pytest.raises(UsageError, match="the record is for other teacher weights"):
        trainer_of((make_net(8), pair[1]), file)


@pytest.mark.parametrize("method", ["dream", "dfkd"])
def test_without_a_record_it_says_what_is_needed(pair, method):
    with pytest.raises(UsageError, match="recorded needs the file that dfad-fast record wrote") as caught:
        DFADTrainer(*pair, SHAPE, method=method, batch_size=8)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"draws": "images"}, "unknown way to draw from a record 'images'"),
        ({"steps": 0}, "recorded: steps must be at least 1, got 0"),
        ({"lr": 0.0}, "recorded: lr must be > 0, got 0.0"),
        ({"layers": -1.0}, "recorded: layers must be at least 0 and finite, got -1.0"),
        ({"smooth": math.nan}, "recorded: smooth must be at least 0 and finite, got nan"),
    ],
)
def test_values_out_of_range_are_refused(settings, told):
    with pytest.raises(UsageError, match=told):
        Recorded("record.safetensors", **settings)
