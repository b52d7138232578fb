"""Images from before, shown to the student again: which they are, what is trained on them, and that a run continues."""

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from dfad_fast import DFADTrainer
from dfad_fast.errors import UsageError
from dfad_fast.networks.levers import Levers
from dfad_fast.runs import checkpoints
from dfad_fast.sources import AveragedGenerator, Batch, Replay, Source, Turn

SHAPE = (1, 8, 8)
SMALL = {"latent_dim": 8, "batch_size": 8, "seed": 0}


def trainer_of(pair, method="dfad", **settings):
    teacher, student = pair
    return DFADTrainer(teacher, copy.deepcopy(student), SHAPE, method, **SMALL, **settings)


class Counts(Source):
    """A batch in each iteration, which is the number of the iteration."""

    student_steps, generated_images, number = 1, 2, -1

    def batches(self, turn):
        self.number += 1
        yield Batch(torch.tensor(self.number), view=None)

    def state_dict(self):
        return {"number": self.number}

    def load_state_dict(self, state):
        self.number = state["number"]


def bench_of(generator, noise=None):
    """A workbench without a teacher."""
    trio = SimpleNamespace(generator=generator, synchronize=lambda network: None)
    prober = SimpleNamespace(trio=trio, generate=lambda noise, by: by(noise))
    return SimpleNamespace(
        prober=prober,
        batch_size=2,
        own_batch_size=2,
        device=torch.device("cpu"),
        draw_noise=lambda: noise,
        see=lambda images, rows, phase: Batch(images, None, phase),
    )


def shown(source):
    """The batches of an iteration, by the phase that losses on them are recorded under."""
    handed_out = list(source.batches(Turn(iter([]), [], 0.0)))
    assert len(handed_out) == source.student_steps
    return [(batch.phase, batch.images) for batch in handed_out]


def test_kept_batches_are_a_uniform_draw_from_all():
    kept = []
    for seed in range(300):
        replay = Replay(Counts(None, None), bench_of(nn.Linear(1, 1)), (), capacity=5, seed=seed)
        for number in range(50):
            (_, newest), (phase, older) = shown(replay)
            assert newest == number
            assert phase == "rehearsed"
            assert older <= number
        kept += [int(images) for images in replay.state_dict()["kept"]]
        assert len({int(images) for images in replay.state_dict()["kept"]}) == 5
    # 1500 draws from 0 to 49: a mean of 24.5 within five standard errors, and no half without its share.
    assert sum(kept) / len(kept) == pytest.approx(24.5, abs=5 * 14.4 / 1500**0.5)
    assert sum(number < 25 for number in kept) == pytest.approx(750, abs=5 * (1500 * 0.25) ** 0.5)


def test_the_averaged_generator_makes_the_images_of_averaged_weights():
    torch.manual_seed(0)
    generator = nn.Linear(3, 4)
    before = copy.deepcopy(generator)
    noise = torch.randn(2, 3)
    averaged = AveragedGenerator(Counts(None, None), bench_of(generator, noise), (), decay=0.9)
    with torch.no_grad():
        generator.weight.add_(1.0)
    averaged.follow(0)  # whose decay is a tenth, see MovingAverage
    _, (phase, images) = shown(averaged)
    assert phase == "rehearsed"
    torch.testing.assert_close(images, 0.1 * before(noise) + 0.9 * generator(noise))
    assert not images.requires_grad


def test_sources_around_a_source_hand_out_its_batches_first_and_keep_its_state():
    def both():
        bench = bench_of(nn.Linear(3, 4), torch.ones(2, 3))
        return AveragedGenerator(Replay(Counts(None, None), bench, (), capacity=2), bench, (), decay=0.5)

    source = both()
    assert (source.student_steps, source.generated_images) == (3, 4)
    first = shown(source)
    assert [phase for phase, _ in first] == ["student", "rehearsed", "rehearsed"]
    assert [int(images) for _, images in first[:2]] == [0, 0]
    shown(source)
    assert [int(images) for images in source.unchanging] == [0, 1]
    other = both()
    other.load_state_dict(other.own_part(copy.deepcopy(source.state_of_all())))
    for (_, images), (_, expected) in zip(shown(other), shown(source), strict=True):
        assert torch.equal(images, expected)


@pytest.mark.parametrize("method", ["dfad", "zskt", "dafl"])
@pytest.mark.parametrize(
    ("settings", "steps", "generated"),
    [({"replay": 2}, 1, 0), ({"generator_ema": 0.5}, 1, 1), ({"replay": 2, "generator_ema": 0.5}, 2, 1)],
)
def test_each_is_one_more_step_of_the_student(pair, method, settings, steps, generated):
    plain, trainer = trainer_of(pair, method), trainer_of(pair, method, **settings)
    taken = []
    for of in (plain, trainer):
        count = [0]
        of.distiller.student_optimizer.optimizer.register_step_post_hook(
            lambda *_, count=count: count.__setitem__(0, count[0] + 1)
        )
        losses = of.step()
        taken.append(count[0])
    assert taken[1] == taken[0] + steps
    assert any(name.startswith("rehearsed/") for name in losses)
    assert trainer.images_per_iteration == plain.images_per_iteration + 8 * generated
    assert trainer.generated_images == trainer.images_per_iteration
    if generated:
        assert trainer.iterations_for(10_000) < plain.iterations_for(10_000)


def test_a_step_on_old_images_is_a_step_on_these_images(pair):
    """A replay of one batch after the first iteration: that iteration's last batch once more."""
    shown = []
    trainer = trainer_of(pair, replay=1)
    trainer.networks.student.register_forward_pre_hook(lambda _, inputs: shown.append(inputs[0].clone()))
    trainer.step()
    assert len(shown) == 7  # five steps, the generator's, and the one more
    assert torch.equal(shown[6], shown[4])
    assert not torch.equal(shown[6], shown[3])


def test_the_generators_warm_up_rehearses_nothing(pair):
    trainer = trainer_of(pair, "dfq", replay=2, generator_ema=0.5)
    trainer.planned_iterations = 20
    assert not any(name.startswith("rehearsed/") for name in trainer.step())
    assert any(name.startswith("rehearsed/") for name in trainer.step())


def test_a_run_goes_on_as_if_it_had_not_been_interrupted(pair, tmp_path):
    settings = {"replay": 3, "generator_ema": 0.9}
    whole = trainer_of(pair, **settings)
    whole.planned_iterations = 8
    whole.fit(8)
    half = trainer_of(pair, out=tmp_path, **settings)
    half.planned_iterations = 8
    half.fit(5)  # more than are kept
    resumed = trainer_of(pair, out=tmp_path, resume=True, **settings)
    resumed.fit(3)
    for key, value in whole.networks.student.state_dict().items():
        assert torch.equal(resumed.networks.student.state_dict()[key], value), key
    with pytest.raises(UsageError, match=r"replay and generator_ema are \[3, 0.9\], not \[2, None\]"):
        trainer_of(pair, out=tmp_path, resume=True, accept_changes=True, replay=2)
    assert trainer_of(pair, out=tmp_path, resume=True, accept_changes=True).iteration == 8


def of_the_version_before(folder, kept):
    """Makes a run's checkpoint one that calls what it keeps of older images a rehearsal."""
    state = checkpoints.read(folder)
    for key in ("source", "older_images"):
        state.pop(key, None)
    checkpoints.save({**state, "rehearsal": kept}, folder / "checkpoint.pt")


def test_a_run_of_the_version_before_goes_on_if_it_kept_no_older_images(pair, tmp_path):
    trainer_of(pair, out=tmp_path).fit(1)
    of_the_version_before(tmp_path, {})
    assert trainer_of(pair, out=tmp_path, resume=True).iteration == 1
    with pytest.raises(UsageError, match=r"replay and generator_ema are None, not \[2, None\]"):
        trainer_of(pair, out=tmp_path, resume=True, accept_changes=True, replay=2)
    of_the_version_before(tmp_path, {"settings": [2, None], "kept": []})
    with pytest.raises(
        UsageError, match=r"it comes from an earlier version, which kept older images in another"
    ):
        trainer_of(pair, out=tmp_path, resume=True)


def test_none_is_the_run_without(pair):
    plain, trainer = trainer_of(pair), trainer_of(pair, replay=0, generator_ema=None)
    for of in (plain, trainer):
        of.step()
    for key, value in plain.networks.student.state_dict().items():
        assert torch.equal(trainer.networks.student.state_dict()[key], value), key


def test_settings_out_of_range_are_refused(pair):
    with pytest.raises(UsageError, match="replay must be at least 0 batches, got -1"):
        trainer_of(pair, replay=-1)
    with pytest.raises(UsageError, match="generator_ema must be at least 0 and less than 1, got 1"):
        trainer_of(pair, generator_ema=1.0)


def test_a_graph_is_left_off_and_that_is_said(pair, monkeypatch):
    """On this machine without a GPU the lever is let through by hand."""
    monkeypatch.setattr("dfad_fast.engine.setup.choose_levers", lambda speed, device: speed)
    for settings in ({"replay": 2}, {"student_terms": "l1 + boundary(margins=linear)"}):
        trainer = trainer_of(pair, speed=Levers(graph=True), **settings)
        assert not trainer.speed.graph
        assert trainer.notices == [
            "no CUDA graph: it is off with replay, generator_ema, terms that change over a run, and sources that "
            "draw on the host"
        ]
