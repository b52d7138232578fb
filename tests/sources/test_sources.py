"""A source of somebody's own: what a method has to do to have its images from there."""

from dataclasses import replace

import pytest
import torch

from dfad_fast import DFADTrainer, Levers, Source
from dfad_fast.methods import DFAD, Method
from dfad_fast.sources import SOURCES
from dfad_fast.terms import L1, Weighted


class Noise(Source):
    """Images of plain noise, without any generator."""

    name = "noise"
    too_many = 0

    @property
    def generated_batches(self):
        return 0

    def batches(self, turn):
        for _ in range(self.student_steps + self.too_many):
            images = torch.randn(self._bench.own_batch_size, 1, 8, 8)
            yield self._bench.see(images, self._plan.student)


@pytest.fixture
def method(monkeypatch):
    monkeypatch.setitem(SOURCES, "noise", Noise)
    rows = (Weighted(1.0, L1()),)
    return Method("noise", "own", rows, (), student_steps=2, generator_steps=0, batches="noise")


def test_a_source_needs_no_generator(pair, method):
    trainer = DFADTrainer(*pair, (1, 8, 8), method, latent_dim=8, batch_size=8)
    assert list(trainer.step()) == ["student/l1"]
    assert trainer.generated_images == 0


def test_a_lever_about_generated_batches_leaves_it_alone(pair, method):
    levers = Levers(student_batches=0)
    trainer = DFADTrainer(*pair, (1, 8, 8), method, latent_dim=8, batch_size=8, speed=levers)
    assert type(trainer.distiller.source) is Noise


def test_one_that_hands_out_more_than_it_says_is_noticed(pair, method, monkeypatch):
    monkeypatch.setattr(Noise, "too_many", 1)
    trainer = DFADTrainer(*pair, (1, 8, 8), method, latent_dim=8, batch_size=8)
    with pytest.raises(ValueError, match="shorter"):
        trainer.step()


def test_a_generators_step_is_asked_for_by_those_that_need_one():
    with pytest.raises(ValueError, match="needs a generator's step"):
        replace(DFAD, batches="generator's", generator_steps=0)
    replace(DFAD, batches="fresh", generator_steps=0)
