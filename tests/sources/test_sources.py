"""A source of somebody's own: what a method has to do to have its images from there."""

import copy
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch

from dfad_fast import DFADTrainer, Levers, Source, SourceSpec
from dfad_fast.errors import UsageError
from dfad_fast.methods import DFAD, Method
from dfad_fast.sources import SOURCES, as_source
from dfad_fast.terms import L1, Weighted


@dataclass(frozen=True)
class Noise(SourceSpec):
    """Images of plain noise, without any generator."""

    name: ClassVar[str] = "noise"
    deviation: float = 1.0
    too_many: int = 0
    too_few: int = 0

    def make(self, bench, plan):
        return NoiseSource(self, bench, plan)


class NoiseSource(Source):
    def __init__(self, spec, bench, plan):
        super().__init__(bench, plan)
        self._spec = spec
        self._rng = torch.Generator().manual_seed(bench.seed)

    @property
    def generated_images(self):
        return 0

    def batches(self, turn):
        for _ in range(self.student_steps + self._spec.too_many - self._spec.too_few):
            size = self._bench.own_batch_size, 1, 8, 8
            images = self._spec.deviation * torch.randn(size, generator=self._rng)
            yield self._bench.see(images, self._plan.student)

    def held_out(self, count, batch_size):
        return iter(torch.ones(count, 1, 8, 8).split(batch_size))

    def state_dict(self):
        return {"rng": self._rng.get_state()}

    def load_state_dict(self, state):
        self._rng.set_state(state["rng"])


@pytest.fixture(autouse=True)
def _known(monkeypatch):
    monkeypatch.setitem(SOURCES, "noise", Noise)


@pytest.fixture
def method():
    rows = (Weighted(1.0, L1()),)
    return Method("noise", "own", rows, (), student_steps=2, generator_steps=0, batches="noise")


def trainer_of(pair, method="dfad", **settings):
    teacher, student = pair
    settings = {"latent_dim": 8, "batch_size": 8, **settings}
    return DFADTrainer(teacher, copy.deepcopy(student), (1, 8, 8), method, **settings)


def test_a_source_needs_no_generator(pair, method):
    trainer = trainer_of(pair, method)
    assert list(trainer.step()) == ["student/l1"]
    assert trainer.generated_images == 0


def test_a_lever_about_generated_batches_leaves_it_alone(pair, method):
    levers = Levers(student_batches=0)
    trainer = trainer_of(pair, method, speed=levers)
    assert type(trainer.distiller.source) is NoiseSource


def test_one_that_hands_out_more_than_it_says_is_noticed(pair, method):
    trainer = trainer_of(pair, method, source="noise(too_many=1)")
    with pytest.raises(ValueError, match="more batches than its student_steps, 2"):
        trainer.step()


def test_one_may_have_nothing_to_hand_out_yet(pair, method):
    trainer = trainer_of(pair, method, source="noise(too_few=2)", replay=2)
    before = copy.deepcopy(trainer.networks.student.state_dict())
    assert trainer.step() == {}
    for key, value in trainer.networks.student.state_dict().items():
        assert torch.equal(before[key], value), key


def test_a_generators_step_is_asked_for_by_those_that_need_one():
    with pytest.raises(ValueError, match="needs at least one generator step"):
        replace(DFAD, batches="generators_batch", generator_steps=0)
    replace(DFAD, batches="fresh", generator_steps=0)


@pytest.mark.parametrize(
    ("former", "now"), [("same noise", "same_noise"), ("generator's", "generators_batch")]
)
def test_names_that_methods_had_for_sources_are_still_read(former, now):
    assert replace(DFAD, batches=former).source_spec == as_source(now)


def test_any_method_learns_from_the_source_that_is_asked_for(pair):
    """Without the generator's part, whose images nobody would see."""
    trainer = trainer_of(pair, "dfad-ar-vi-bn", source="noise")
    losses = trainer.step()
    assert sorted(losses) == ["student/boundary", "student/l1", "student/virtual"]
    assert trainer.generated_images == 0
    assert torch.equal(trainer.sample(3), torch.ones(3, 1, 8, 8))
    with pytest.raises(UsageError, match="no length in images: give iterations"):
        trainer.iterations_for(1000)
    with pytest.raises(UsageError, match="generator_ema averages a generator, but none is trained"):
        trainer_of(pair, source="noise", generator_ema=0.9)


def test_what_an_iteration_took_is_counted(pair):
    trainer = trainer_of(pair, "dfad-vi")
    trainer.step()
    state = trainer.distiller.state
    assert state.generated_images == 6 * 8 == trainer.images_per_iteration
    assert state.teacher_passes == 6 * 8  # the generator's step too; labels are mixed
    assert state.student_passes == 5 * 2 * 8 + 8
    assert trainer.summary()["teacher_passes"] == 48
    asking = trainer_of(pair, student_terms="virtual(labels=teacher)")
    asking.step()
    assert asking.distiller.state.teacher_passes == (5 * 2 + 1) * 8


def test_a_run_is_not_resumed_with_images_of_another_source(pair, tmp_path):
    trainer_of(pair, source="noise", out=tmp_path).fit(1)
    with pytest.raises(UsageError, match="source: noise then, fresh now"):
        trainer_of(pair, source="fresh", out=tmp_path, resume=True)
    with pytest.raises(UsageError, match="its images come from noise, not from fresh"):
        trainer_of(pair, source="fresh", out=tmp_path, resume=True, accept_changes=True)
    assert trainer_of(pair, source="noise", out=tmp_path, resume=True).iteration == 1


def test_an_iteration_has_as_many_of_the_students_steps_as_are_asked_for(pair):
    trainer = trainer_of(pair, source="noise", student_steps=3)
    trainer.step()
    assert trainer.distiller.state.student_passes == 3 * 8
    with pytest.raises(UsageError, match="student_steps must be at least 1, got 0"):
        trainer_of(pair, student_steps=0)
