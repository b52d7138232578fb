"""``run.py bank`` on networks so small that it takes a moment."""

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner

from benchmarks import run
from benchmarks.bank import cases
from benchmarks.bank.cases import Case

_FASHION = cases.CASES["fashion"].pair


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    pair = replace(_FASHION, teacher="lenet5", student="lenet5-half", image_shape=(1, 32, 32), batch_size=8)
    monkeypatch.setattr(cases, "CASES", {"small": Case(pair, images=64, views=2)})


def test_every_contender_runs_and_what_asks_the_teacher_is_told(tmp_path):
    # LeNets' features match as those of the other pairs do.
    options = ("--cases", "small", "--rounds", "1", "--out", str(tmp_path))
    done = CliRunner().invoke(run.main, ["bank", *options])
    assert done.exit_code == 0, done.output
    rows = json.loads((tmp_path / "bank.json").read_text())["cases"]["small"]
    assert [row["contender"] for row in rows] == [contender.name for contender in cases.CONTENDERS]
    asked = {row["contender"]: row["asked"] for row in rows}
    assert asked["fresh, no generator's step"] == 1.0
    assert asked["fresh"] == 1.2  # with the generator's step
    assert asked["bank, filled once"] == asked["bank, filled once, in the run's folder"] == 0.0
    assert asked["bank, filled once, no answers stored"] == 1.0
    assert asked["bank, a new batch each iteration"] == pytest.approx(0.2 + 2 / 5)
    assert asked["bank, filled once, l1 + boundary"] == 1.0
    assert all(row["seconds"] > 0 and len(row["runs"]) == 1 for row in rows)
    assert (tmp_path / "bank.md").read_text() in done.output


def test_a_case_that_is_none_is_refused():
    refused = CliRunner().invoke(run.main, ["bank", "--cases", "fashion"])
    assert refused.exit_code == 2
    assert "unknown case fashion: choose from small" in refused.output
