import copy
import json
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from safetensors.torch import load_file
from torch import nn

from dfad_fast import DFADTrainer
from dfad_fast.engine.recipe import Recipe
from dfad_fast.errors import DFADFastWarning, RunError, UsageError
from dfad_fast.methods import Method
from dfad_fast.models import (
    ConditionalGenerator,
    DAFLGenerator,
    DCGANGenerator,
    DFADGenerator,
    ZSKTGenerator,
)
from dfad_fast.terms import L1, FactorTransfer, Term, Weighted
from tests.short_methods import WITHOUT_FILES
from tests.small_networks import make_net

SHAPE = (1, 8, 8)
SMALL = {"latent_dim": 8, "batch_size": 8}


def weights(network):
    return {key: value.clone() for key, value in network.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


# The banks of drawn images are not full in one iteration, and the student of kegnet comes after its generators.
@pytest.mark.parametrize(
    "method",
    [m for name, m in WITHOUT_FILES.items() if name not in ("procedural", "procedural-inversion", "kegnet")],
    ids=lambda m: m.name,
)
def test_an_iteration_trains_student_and_generator_and_leaves_the_teacher(pair, method):
    teacher, student = pair
    trainer = DFADTrainer(teacher, student, SHAPE, method, **SMALL)
    before = weights(teacher), weights(student), weights(trainer.networks.generator)
    losses = trainer.step()
    assert same(weights(teacher), before[0])
    assert not same(weights(student), before[1])
    assert same(weights(trainer.networks.generator), before[2]) == (not method.source_spec.generating)
    assert all(p.grad is None for p in teacher.parameters())
    assert all(p.requires_grad for p in [*teacher.parameters(), *student.parameters()])
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in [*teacher.modules(), *student.modules()])
    assert {name for name in losses if not name.startswith("rehearsed/")} == {
        *(f"student/{r.term.name}" for r in method.student),
        *(f"generator/{r.term.name}" for r in method.generator),
    }
    held_out = any(part.optimizes_images for part in method.source_spec.walk())
    assert trainer.generated_images == trainer.images_per_iteration * (1 + held_out)


def test_dfad_follows_a_plain_loop(pair):
    """Ten iterations of DFAD, written out: the same losses and weights."""
    # In double precision: Adam makes steps of full size of the rounding noise in gradients that should be 0.
    teacher, student = (network.double() for network in pair)
    plain_student = copy.deepcopy(student)
    trainer = DFADTrainer(teacher, student, SHAPE, "dfad", recipe="adam", **SMALL)
    generator = copy.deepcopy(trainer.networks.generator)
    noise = torch.Generator().manual_seed(0)
    student_optimizer = torch.optim.Adam(plain_student.parameters(), lr=2e-3)
    generator_optimizer = torch.optim.Adam(generator.parameters(), lr=1e-3)
    plain_student.train()
    generator.train()
    for _ in range(10):
        losses = trainer.step()
        for _ in range(5):
            images = generator(torch.randn(8, 8, generator=noise, dtype=torch.float64)).detach()
            student_loss = F.l1_loss(plain_student(images), teacher(images).detach())
            student_optimizer.zero_grad()
            student_loss.backward()
            student_optimizer.step()
        images = generator(torch.randn(8, 8, generator=noise, dtype=torch.float64))
        generator_loss = -F.l1_loss(plain_student(images), teacher(images))
        generator_optimizer.zero_grad()
        generator_loss.backward()
        generator_optimizer.step()
        torch.testing.assert_close(losses["student/l1"], student_loss, rtol=1e-8, atol=1e-10)
        torch.testing.assert_close(losses["generator/l1"], -generator_loss, rtol=1e-8, atol=1e-10)
    for name, value in plain_student.state_dict().items():
        torch.testing.assert_close(student.state_dict()[name], value, rtol=1e-6, atol=1e-7)


def test_a_seed_fixes_everything_and_another_changes_it(pair):
    teacher, student = pair

    def run(seed):
        trainer = DFADTrainer(teacher, copy.deepcopy(student), SHAPE, seed=seed, **SMALL)
        torch.randn(3)  # what the caller draws changes nothing
        for _ in range(3):
            trainer.step()
        return weights(trainer.networks.student)

    assert same(run(0), run(0))
    assert not same(run(0), run(1))


def test_the_callers_random_numbers_are_left_alone(pair):
    torch.manual_seed(5)
    expected = torch.randn(3)
    torch.manual_seed(5)
    DFADTrainer(*pair, SHAPE, **SMALL).step()
    assert torch.equal(torch.randn(3), expected)


def test_auto_looks_at_the_teachers_batch_norm_layers(pair):
    _, student = pair
    plain = make_net(8, batch_norm=False)
    assert DFADTrainer(*pair, SHAPE, **SMALL).method.name == "dfad-ar-vi-bn"
    assert DFADTrainer(plain, student, SHAPE, **SMALL).method.name == "dfad-ar"
    flat = nn.Sequential(nn.Flatten(), nn.LazyLinear(4))
    flat(torch.zeros(1, *SHAPE))
    assert DFADTrainer(plain, flat, SHAPE, **SMALL).method.name == "dfad"
    assert DFADTrainer(pair[0], flat, SHAPE, **SMALL).method.name == "dfad-vi-bn"
    with pytest.raises(UsageError, match="this teacher has none"):
        DFADTrainer(plain, student, SHAPE, "dfad-ar-vi-bn", **SMALL)


@pytest.mark.pictures
def test_fit_leaves_a_whole_folder(pair, tmp_path):
    test = [(torch.randn(16, *SHAPE), torch.randint(4, (16,)))]
    trainer = DFADTrainer(*pair, SHAPE, out=tmp_path / "run", **SMALL)
    summary = trainer.fit(4, evaluate=iter(test))
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {
        "student.safetensors",
        "student_best.safetensors",
        "generator.safetensors",
        "config.yaml",
        "metrics.jsonl",
        "samples.png",
        "samples",
        "curves.png",
        "report.html",
        "summary.json",
        "checkpoint.pt",
    }
    assert json.loads((tmp_path / "run/summary.json").read_text()) == summary
    assert same(load_file(tmp_path / "run/student.safetensors"), weights(trainer.networks.student))
    config = yaml.safe_load((tmp_path / "run/config.yaml").read_text())
    assert config["method"] == "dfad-ar-vi-bn"
    assert [row["teacher"] for row in config["taps"]] == ["2#0", "6#0"]
    records = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [r["iteration"] for r in records] == [1, 2, 3, 4]
    assert records[-1]["student_accuracy"] == summary["student_accuracy_final"]
    assert records[-1]["generated_images"] == summary["generated_images"] == 4 * 6 * 8
    for png in ("samples.png", "curves.png"):
        assert (tmp_path / "run" / png).read_bytes().startswith(b"\x89PNG")
    required = "method seed teacher_accuracy student_accuracy_final student_accuracy_best agreement_final "
    required += (
        "teacher_parameters student_parameters generated_images seconds_distill device threads versions"
    )
    assert all(summary[key] is not None for key in required.split())


def test_without_any_data_the_summary_still_says_something(pair):
    summary = DFADTrainer(*pair, SHAPE, **SMALL).fit(2)
    assert summary["teacher_accuracy"] is None
    assert 0 <= summary["agreement_generated"] <= 1
    assert summary["discrepancy_generated"] > 0
    assert list(summary["sign_agreement_generated"]) == ["2#0", "6#0"]


def test_a_student_equal_to_its_teacher_agrees_in_everything(pair):
    teacher, _ = pair
    summary = DFADTrainer(teacher, copy.deepcopy(teacher), SHAPE, "dfad", **SMALL).summary()
    assert summary["agreement_generated"] == 1
    assert summary["discrepancy_generated"] == 0
    assert set(summary["sign_agreement_generated"].values()) == {1.0}


def test_held_out_noise_is_drawn_by_no_step(pair):
    for seed in (0, 1):
        trainer = DFADTrainer(*pair, SHAPE, seed=seed, **SMALL)
        random = trainer.distiller.random
        held_out = random.draw_noise(8, random.held_out())
        assert not any(torch.equal(held_out, random.draw_noise(8, random.noise)) for _ in range(12))


def test_steps_after_a_run_keep_its_last_rates(pair):
    trainer = DFADTrainer(*pair, SHAPE, "dfad-ar", **SMALL)
    trainer.fit(2)
    before = weights(trainer.networks.student)
    trainer.step()
    assert trainer.rates["student_lr"] == 0
    moved = [
        name
        for name, value in weights(trainer.networks.student).items()
        if not torch.equal(value, before[name])
    ]
    assert all("running" in name or "num_batches" in name for name in moved)


def test_two_terms_of_one_kind_are_told_apart(pair):
    method = Method("twice", "", (Weighted(1.0, L1()), Weighted(0.5, L1())), (Weighted(-1.0, L1()),))
    losses = DFADTrainer(*pair, SHAPE, method, **SMALL).step()
    assert set(losses) == {"student/l1", "student/l1_2", "generator/l1"}


def test_a_network_that_flattens_with_view_works_and_stays_as_it_was(pair):
    class Views(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv2d(1, 4, 3), nn.Linear(144, 4)

        def forward(self, x):
            x = torch.relu(self.conv(x))
            return self.head(x.view(x.size(0), -1))

    teacher, student = Views(), Views()
    DFADTrainer(teacher, student, SHAPE, **SMALL).step()
    teacher(torch.randn(2, *SHAPE))


def test_sampling_changes_nothing(pair):
    trainer = DFADTrainer(*pair, SHAPE, **SMALL)
    before = weights(trainer.networks.generator), trainer.state_dict()["noise"]
    images = trainer.sample(13)
    assert images.shape == (13, *SHAPE)
    assert torch.equal(images, trainer.sample(13))
    assert same(weights(trainer.networks.generator), before[0])
    assert torch.equal(trainer.state_dict()["noise"], before[1])


def test_a_resumed_run_ends_as_one_that_was_never_stopped(pair, tmp_path):
    teacher, student = pair

    class StopAt:
        def __init__(self, iteration):
            self.iteration = iteration

        def advance(self, iteration):
            if iteration == self.iteration:
                import signal

                signal.raise_signal(signal.SIGINT)

        def log(self, record):
            pass

    whole = DFADTrainer(teacher, copy.deepcopy(student), SHAPE, **SMALL)
    whole.fit(6)
    first = DFADTrainer(teacher, copy.deepcopy(student), SHAPE, out=tmp_path, **SMALL)
    with pytest.raises(KeyboardInterrupt):
        first.fit(6, progress=StopAt(3))
    assert json.loads((tmp_path / "summary.json").read_text())["iterations"] == 3
    second = DFADTrainer(teacher, copy.deepcopy(student), SHAPE, out=tmp_path, resume=True, **SMALL)
    assert second.iteration == 3
    second.fit(3)
    for name in ("student", "generator", "connectors"):
        assert same(weights(getattr(second.networks, name)), weights(getattr(whole.networks, name)))
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [r["iteration"] for r in records] == [1, 2, 3, 4, 5, 6]


class TurnsNaN(Term):
    name = "turns_nan"

    def __init__(self, at):
        self.calls, self.at = 0, at

    def __call__(self, probe):
        self.calls += 1
        return probe.student.mean() * (float("nan") if self.calls >= self.at else 1.0)


def test_a_loss_that_turns_nan_stops_the_run_and_keeps_the_last_good_state(pair, tmp_path):
    # 5 student steps an iteration, a record every 2 iterations: the 33rd call is in iteration 7.
    method = Method("bad", "", (Weighted(1.0, L1()), Weighted(1.0, TurnsNaN(33))), (Weighted(-1.0, L1()),))
    teacher, student = pair
    trainer = DFADTrainer(teacher, student, SHAPE, method, out=tmp_path, **SMALL)
    with pytest.raises(RunError, match=r"student/turns_nan is not finite at iteration 7; .*iteration 6"):
        trainer.fit(10, log_every=2)
    saved = load_file(tmp_path / "student.safetensors")
    assert same(saved, weights(student))
    assert all(value.isfinite().all() for value in saved.values())
    assert trainer.iteration == 6
    again = DFADTrainer(teacher, make_net(4), SHAPE, method, out=tmp_path, resume=True, **SMALL)
    assert again.iteration == 6


class Raises(Term):
    name = "raises"

    def __init__(self, at):
        self.calls, self.at = 0, at

    def __call__(self, probe):
        self.calls += 1
        if self.calls >= self.at:
            raise ZeroDivisionError("of my own")
        return probe.student.mean()


def test_a_step_that_raises_ends_the_run_at_the_last_good_state(pair, tmp_path):
    # Amid an iteration: the student's third step of the seventh.
    method = Method("bad", "", (Weighted(1.0, L1()), Weighted(1.0, Raises(33))), (Weighted(-1.0, L1()),))
    teacher, student = pair
    trainer = DFADTrainer(teacher, student, SHAPE, method, out=tmp_path, **SMALL)
    with pytest.raises(RunError, match=r"iteration 7 failed \(ZeroDivisionError: of my own\); .*iteration 6"):
        trainer.fit(10, log_every=2)
    assert trainer.iteration == 6
    assert same(load_file(tmp_path / "student.safetensors"), weights(student))
    assert 'raise ZeroDivisionError("of my own")' in (tmp_path / "traceback.txt").read_text()
    assert DFADTrainer(teacher, make_net(4), SHAPE, method, out=tmp_path, resume=True, **SMALL).iteration == 6


def test_a_teacher_that_raises_after_some_calls_ends_the_run_likewise(pair):
    teacher, student = pair
    trainer = DFADTrainer(teacher, student, SHAPE, "dfad", speed="exact", **SMALL)
    trainer.fit(2, log_every=1)
    kept = weights(student)

    def fails(*_):
        raise RuntimeError("out of something\nand more")

    trainer.distiller.prober.quick_teacher.register_forward_hook(fails)
    with pytest.raises(RunError, match=r"iteration 3 failed \(RuntimeError: out of something\)"):
        trainer.fit(2)
    assert same(weights(student), kept)


def test_a_callback_ends_a_run_early(pair, tmp_path):
    class Stop:
        def advance(self, iteration):
            if iteration == 3:
                trainer.stop()

        def log(self, record):
            pass

    trainer = DFADTrainer(*pair, SHAPE, out=tmp_path, **SMALL)
    summary = trainer.fit(10, progress=Stop())
    assert (summary["iterations"], summary["planned_iterations"]) == (3, 10)
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
    assert trainer.fit(2)["iterations"] == 5  # and goes on where it is asked to


class FlatWithSteepGradient(Term):
    name = "steep"

    def __call__(self, probe):
        return (probe.student.sum() * 0).sqrt()


def test_weights_that_turn_nan_are_found_before_any_loss_shows_it(pair):
    teacher, student = pair
    method = Method(
        "steep", "", (Weighted(1.0, FlatWithSteepGradient()),), (), student_steps=1, generator_steps=0
    )
    trainer = DFADTrainer(teacher, student, SHAPE, method, **SMALL)
    with pytest.raises(RunError, match="a weight is not finite at iteration 1"):
        trainer.fit(3)
    assert all(value.isfinite().all() for value in student.state_dict().values())


def test_learning_rates_and_weights_follow_the_run(pair):
    trainer = DFADTrainer(*pair, SHAPE, recipe="adam", **SMALL)
    rates = []
    trainer.planned_iterations = 4
    for _ in range(4):
        trainer.step()
        rates.append(trainer.rates["student_lr"])
    assert rates == pytest.approx([2e-3, 2e-3 * (0.5 + np.sqrt(0.125)), 1e-3, 2e-3 * (0.5 - np.sqrt(0.125))])


def test_a_longer_run_whose_rate_rises_again_says_so(pair):
    trainer = DFADTrainer(*pair, SHAPE, "dfad", recipe=Recipe("adam", student_lr=0.1), **SMALL)
    trainer.fit(4, log_every=1)
    with pytest.warns(
        DFADFastWarning, match=r"rises again, from 0.0146 to 0.05, since .* planned for 4 iterations"
    ):
        trainer.fit(4, log_every=1)
    rates = [record["student_lr"] for record in trainer.history]
    assert rates[3] == pytest.approx(0.0146, abs=5e-5)
    assert rates[4] == pytest.approx(0.05)
    # What the warning says to do.
    for settings, planned in (({"recipe": Recipe(lr_decay="constant")}, None), ({}, 2)):
        quiet = DFADTrainer(*copy.deepcopy(pair), SHAPE, "dfad", **settings, **SMALL)
        quiet.planned_iterations = planned
        with warnings.catch_warnings():
            warnings.simplefilter("error", DFADFastWarning)
            quiet.fit(1)
            quiet.fit(1)


def test_no_step_reads_back_from_the_device(pair, monkeypatch):
    trainer = DFADTrainer(*pair, SHAPE, **SMALL)

    def read_back(*_):
        raise AssertionError("a step waits for the device")

    for name in ("item", "tolist", "__bool__", "__float__", "cpu", "numpy"):
        monkeypatch.setattr(torch.Tensor, name, read_back)
    # Mixing reads lam where it is on the CPU, as all tensors are here.
    monkeypatch.setattr("dfad_fast.ops.mixing._checked", lambda _, lam: lam)
    trainer.step()


def test_generators_phase_computes_no_weight_gradients_of_the_others(pair):
    teacher, student = pair
    method = Method("generator-only", "", (Weighted(1.0, L1()),), (Weighted(-1.0, L1()),), student_steps=0)
    trainer = DFADTrainer(teacher, student, SHAPE, method, **SMALL)
    trainer.step()
    assert all(p.grad is None for p in [*teacher.parameters(), *student.parameters()])
    assert all(p.grad is not None for p in trainer.networks.generator.parameters())


@pytest.mark.parametrize(("mode", "moves"), [("train", True), ("eval", False)])
def test_the_students_statistics_move_in_the_generators_phase_only_in_train_mode(pair, mode, moves):
    teacher, student = pair
    rows = (Weighted(1.0, L1()),), (Weighted(-1.0, L1()),)
    trainer = DFADTrainer(
        teacher, student, SHAPE, Method("m", "", *rows, student_steps=0, student_mode=mode), **SMALL
    )
    before = student[1].running_mean.clone()
    trainer.step()
    assert torch.equal(before, student[1].running_mean) != moves


class Tuple(nn.Module):
    def forward(self, x):
        return (x.mean((1, 2, 3)),)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"teacher": Tuple()}, "the teacher must map images .* it returned tuple"),
        ({"teacher": nn.Flatten(0)}, "the teacher must map images"),
        ({"student": make_net(4, classes=3)}, "the student answers with 3 classes and the teacher with 4"),
        ({"image_shape": (3, 8, 8)}, r"the teacher cannot take images of shape \[3, 8, 8\]"),
        ({"image_shape": (8, 8)}, "the image shape must be CHANNELS,HEIGHT,WIDTH"),
        ({"method": "dfadd"}, "did you mean 'dfad'"),
        ({"generator": "dfda"}, "unknown generator .*did you mean .dfad"),
        ({"generator": nn.Linear(8, 5)}, "the generator must map noise"),
        ({"generator": nn.Linear(9, 5)}, "the generator cannot take noise"),
        ({"recipe": "slow"}, "unknown recipe"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"student": nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten())}, "the student has no parameters"),
        ({"student": make_net(4).double()}, "bring both to one device and type"),
        ({"batch_size": 1}, "batch_size must be at least 2"),
        ({"latent_dim": 0}, "latent_dim must be at least 1"),
        ({"taps_teacher": ["nowhere"]}, "unknown submodule to tap"),
        ({"taps_teacher": ["2"], "taps_student": ["2", "6"]}, "1 taps are named for the teacher and 2"),
        ({"taps_teacher": ["2"], "taps_student": ["6"]}, "features do not match"),
        ({"image_mean": (0.5,)}, "mean and std must be given together"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(pair, change, message):
    arguments = {"teacher": pair[0], "student": pair[1], "image_shape": SHAPE, **SMALL, **change}
    with pytest.raises(UsageError, match=message) as caught:
        DFADTrainer(**arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("iterations", [0, -3])
def test_a_run_of_no_iterations_is_refused(pair, iterations):
    with pytest.raises(UsageError, match="iterations must be at least 1"):
        DFADTrainer(*pair, SHAPE, **SMALL).fit(iterations)


def test_networks_that_share_no_feature_sizes_need_a_method_without_features(pair):
    teacher, _ = pair
    student = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    with pytest.raises(UsageError, match="features do not match"):
        DFADTrainer(teacher, student, SHAPE, "dfad-ar", **SMALL)
    DFADTrainer(teacher, student, SHAPE, "dfad", **SMALL).step()
    trainer = DFADTrainer(teacher, student, SHAPE, **SMALL)
    assert trainer.method.name == "dfad-vi-bn"
    trainer.step()


def test_a_generator_of_the_users_is_taken_as_it_is(pair):
    generator = nn.Sequential(nn.Linear(8, 64), nn.Unflatten(1, SHAPE))
    before = weights(generator)
    trainer = DFADTrainer(*pair, SHAPE, generator=generator, **SMALL)
    assert trainer.networks.generator is generator
    assert same(before, weights(generator))
    trainer.step()
    assert not same(before, weights(generator))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("auto", DFADGenerator),
        ("zskt", ZSKTGenerator),
        ("dafl", DAFLGenerator),
        ("dcgan", DCGANGenerator),
        ("conditional", ConditionalGenerator),
    ],
)
def test_generators_by_name_are_trained(pair, name, expected):
    trainer = DFADTrainer(*pair, SHAPE, generator=name, **SMALL)
    generator = trainer.networks.generator
    assert type(generator) is expected
    before = weights(generator)
    trainer.step()
    assert not same(before, weights(generator))


def test_a_conditional_generator_learns_what_it_is_told(pair):
    """With the term alone the teacher comes to see the labels in the images."""
    trainer = DFADTrainer(
        *pair, SHAPE, "dfad", generator="conditional", generator_terms="label", batch_size=32, latent_dim=8
    )
    first = trainer.step()["generator/label"]
    for _ in range(60):
        last = trainer.step()["generator/label"]
    assert last < 0.95 * first


@pytest.mark.parametrize(
    "settings", [{"student_terms": "l1 + label", "generator": "conditional"}, {"generator_terms": "label"}]
)
def test_labels_where_there_are_none_are_refused(pair, settings):
    with pytest.raises(UsageError, match="label reads the labels of a conditional generator's images"):
        DFADTrainer(*pair, SHAPE, "dfad", **settings, **SMALL)


def test_what_a_term_trains_is_trained_with_the_student_and_kept(pair, tmp_path):
    def trainer_of(**more):
        teacher, student = pair
        terms = "l1 + factor(stage=0) + 0.5*manifold(stage='3')"
        return DFADTrainer(
            teacher, copy.deepcopy(student), SHAPE, "dfad", student_terms=terms,
            generator_terms="-l1 - 0.1*factor(stage=0)", **SMALL, **more,
        )  # fmt: skip

    whole = trainer_of()
    assert len(whole.networks.term_modules) == 1  # equal terms share it
    before = weights(whole.networks.term_modules)
    losses = whole.step()
    assert {"student/factor", "student/manifold", "generator/factor"} <= set(losses)
    assert not same(before, weights(whole.networks.term_modules))
    whole.planned_iterations = 4
    whole.fit(3)

    half = trainer_of(out=tmp_path)
    half.planned_iterations = 4
    half.step()
    half.fit(1)
    resumed = trainer_of(out=tmp_path, resume=True)
    resumed.fit(2)
    assert same(weights(whole.networks.term_modules), weights(resumed.networks.term_modules))
    assert same(weights(whole.networks.student), weights(resumed.networks.student))


def test_the_generators_step_leaves_what_a_term_trains_alone(pair):
    row = Weighted(-1.0, FactorTransfer(0))
    trainer = DFADTrainer(*pair, SHAPE, Method("own", "", (), (row,), student_steps=0), **SMALL)
    trainer.step()
    assert all(p.grad is None and p.requires_grad for p in trainer.networks.term_modules.parameters())
    assert any(p.grad.abs().sum() > 0 for p in trainer.networks.generator.parameters())
    unused = Method("own", "", (Weighted(1.0, FactorTransfer(9)),), (row,), student_steps=0)
    DFADTrainer(*pair, SHAPE, unused, **SMALL).step()


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ("body", "unknown stage of the student 'body'"),
        ("unused", "runs 0 times in a forward pass"),
        ("twice", "runs 2 times in a forward pass"),
        ("pair", "returns no tensor with one entry per image"),
        ("sum", "returns no tensor with one entry per image"),
    ],
)
def test_a_stage_that_cannot_be_mixed_is_refused_before_the_run(pair, tmp_path, stage, message):
    class Both(nn.Module):
        def forward(self, x):
            return x, x

    class Sum(nn.Module):
        def forward(self, x):
            return x.sum()

    class Student(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.twice, self.unused = nn.Linear(64, 4), nn.ReLU(), nn.ReLU()
            self.pair, self.sum = Both(), Sum()

        def forward(self, x):
            x, _ = self.pair(self.twice(self.twice(self.net(x.flatten(1)))))
            return x + 0 * self.sum(x)

    with pytest.raises(UsageError, match=message):
        DFADTrainer(
            pair[0], Student(), SHAPE, "dfad", student_terms=f"l1 + manifold(stage='{stage}')",
            out=tmp_path / "run", **SMALL,
        )  # fmt: skip
    assert not (tmp_path / "run").exists()


def test_the_last_stage_is_read_where_nothing_matches(pair):
    """A student that is asked for no features need not have any like the teacher's."""
    teacher, _ = pair
    student = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    trainer = DFADTrainer(teacher, student, SHAPE, "dafl", speed="exact", **SMALL)
    assert not trainer.networks.tap_pairs
    assert trainer.step()["generator/activation"].isfinite()
    images = torch.randn(8, *SHAPE)
    view = trainer.distiller.prober.look(images, trainer.method.generator, graph=False)
    torch.testing.assert_close(view.last_stage, teacher[:6](images), rtol=1e-4, atol=1e-5)
    assert view.features == []
    with pytest.raises(UsageError, match="reads the teacher's last stage, but no stage was found"):
        DFADTrainer(copy.deepcopy(student), student, SHAPE, "dafl", **SMALL)


def test_a_conditional_generator_is_trained_on_noise_alone(pair):
    generator = ConditionalGenerator(DFADGenerator(SHAPE, 4 + 8, width=8), classes=4)
    before = weights(generator)
    DFADTrainer(*pair, SHAPE, generator=generator, **SMALL).step()
    assert not same(before, weights(generator))
