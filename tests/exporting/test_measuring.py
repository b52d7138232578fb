from types import SimpleNamespace

import pytest
import torch

from dfad_fast.exporting import measuring


@pytest.mark.parametrize(
    ("seconds", "runs"), [([0.25], 4), ([30.0], 3), ([1e-6], 50), ([0.25, 0.5, 0.125, 0.125, 4.0], 3)]
)
def test_the_median_of_as_many_runs_as_a_second_holds(monkeypatch, seconds, runs):
    clock = [0.0]
    shown = []

    def predict(images):
        clock[0] += seconds[min(len(shown), len(seconds) - 1)]
        shown.append(images)

    monkeypatch.setattr(measuring, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    found = measuring.latency(predict, torch.arange(3.0).view(3, 1, 1, 1), 5)
    assert found.runs == runs == len(shown) - 2
    expected = 125 if len(seconds) > 1 else 1000 * seconds[0]
    assert found.milliseconds == pytest.approx(expected, rel=1e-3)
    assert all(images.flatten().tolist() == [0, 1, 2, 0, 1] for images in shown)
