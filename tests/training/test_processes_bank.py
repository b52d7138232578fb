"""A bank in a run over several processes: it is the same in all, and the run is what it is with one."""

import pytest
import torch

from dfad_fast.errors import UsageError
from tests.training.test_processes import farthest, interrupted_run, run, together, trainer_of

__all__ = ["together"]

SOURCES = {
    "age": "bank(fresh, images=48, augment='flip-shift-mix')",
    "hardest": "bank(fresh, images=40, keep=hardest, augment='flip-shift-mix')",
    "asking": "bank(fresh, images=48, keep=balanced, views=0)",
}


def after_steps(source, iterations):
    trainer = trainer_of(source=source, method="dfad-vi")
    for _ in range(iterations):
        trainer.step()
    rolls = trainer.distiller.source.state_dict()["bank"]["rolls"]
    state = trainer.distiller.state
    return (
        trainer.networks.student.state_dict(),
        {name: torch.cat([roll[name] for roll in rolls]) for name in rolls[0]},
        (state.generated_images, state.teacher_passes, state.student_passes),
    )


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_several_processes_have_the_bank_of_one(together, source):
    student, roll, counts = after_steps(source, 8)
    for found, own_roll, own_counts in together(after_steps, 2, source, 8):
        assert farthest(found, student) < 1e-7
        assert own_counts == counts
        for name, value in roll.items():
            torch.testing.assert_close(own_roll[name], value, rtol=1e-5, atol=1e-6)


def run_with(folder, iterations, settings):
    return run(folder, iterations, **settings)


def stop_with(folder, iterations, settings):
    return interrupted_run(folder, iterations, **settings)


def test_an_interrupted_run_goes_on_to_the_same_bits_and_with_one_process(together, tmp_path):
    settings = {"source": SOURCES["hardest"]}
    (expected, *_), _ = together(run_with, 2, tmp_path / "whole", 6, settings)
    for name in ("two", "one"):
        assert together(stop_with, 2, tmp_path / name, 6, settings) == [3, 3]
    for state, *_ in together(run_with, 2, tmp_path / "two", 6, {**settings, "resume": True}):
        assert farthest(state, expected) == 0.0
    state, *_ = run(tmp_path / "one", 6, **settings, resume=True)
    assert farthest(state, expected) < 1e-7


def too_large():
    with pytest.raises(UsageError) as caught:
        trainer_of(source="bank(fresh, images=48)", bank_memory=0.0)
    return str(caught.value)


def test_one_that_is_too_large_for_memory_is_refused(together):
    for message in together(too_large, 2):
        assert "with several processes it must fit in memory: keep fewer, or raise bank_memory" in message
