import json

import pytest
from click.testing import CliRunner

from benchmarks import run
from dfad_fast.jobs import settings
from dfad_fast.jobs.settings import DistillSettings


class Quick(DistillSettings):
    """Runs that take no time: what is compared is what comes out of them, whatever it is."""

    def __init__(self, **given):
        super().__init__(**{"teacher": "resnet10-w8", "teacher_epochs": 1, "student": "resnet10-w8", **given})


@pytest.fixture(scope="module")
def folder(tmp_path_factory, forking):
    """One for all, so that one teacher is trained."""
    with forking(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(settings, "DistillSettings", Quick)
        yield tmp_path_factory.mktemp("methods")


def test_methods_are_compared_at_equal_images(folder, monkeypatch):
    monkeypatch.chdir(folder)
    arguments = ["--methods", "dfad,dfad-ar-vi-bn", "--seeds", "0,1", "--iterations", "2", "--out", "out"]
    done = CliRunner().invoke(run.main, ["methods", *arguments])
    assert done.exit_code == 0, done.output
    runs = json.loads((folder / "out/methods.json").read_text())
    assert {name: [run["seed"] for run in rows] for name, rows in runs.items()} == {
        "dfad": [0, 1],
        "dfad-ar-vi-bn": [0, 1],
    }
    assert len({run["generated_images"] for rows in runs.values() for run in rows}) == 1
    table = (folder / "out/methods.md").read_text()
    mean = sum(run["student_accuracy_final"] for run in runs["dfad"]) / 2
    assert f"| `dfad` | {100 * mean:.2f} ± " in table


def test_settings_of_a_run_are_compared_with_it(folder, monkeypatch):
    monkeypatch.chdir(folder)
    arguments = ["--methods", "dfad", "--seeds", "0", "--iterations", "2", "--out", "settings"]
    variants = ["--with", "student_ema=0.5", "--with", "generator_terms=-1*log_l1"]
    done = CliRunner().invoke(run.main, ["methods", *arguments, *variants])
    assert done.exit_code == 0, done.output
    runs = json.loads((folder / "settings/methods.json").read_text())
    assert list(runs) == ["dfad", "dfad with student_ema=0.5", "dfad with generator_terms=-1*log_l1"]
    assert "averaged_accuracy_final" in runs["dfad with student_ema=0.5"][0]
    table = (folder / "settings/methods.md").read_text()
    assert "| `dfad with student_ema=0.5`, the averaged student | " in table
    for wrong, message in (
        ("replya=3", "did you mean 'replay'"),
        ("replay", "takes NAME=VALUE"),
        ("replay=abc", "'abc' is not a valid integer"),
        ("out=elsewhere", "unknown setting 'out'"),
        ("generator_terms=-1 log_l1", "the same folder"),
    ):
        refused = CliRunner().invoke(run.main, ["methods", *arguments, *variants, "--with", wrong])
        assert refused.exit_code == 2
        assert message in refused.output


def test_unknown_methods_are_refused_before_anything_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(run.main, ["methods", "--methods", "dfad,dfda"])
    assert done.exit_code == 2
    assert "did you mean 'dfkd' or 'dfad'" in done.output
    assert not list(tmp_path.iterdir())


def test_runs_of_some_seconds_have_as_many_iterations_as_take_them(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setattr("dfad_fast.jobs.pace._SECONDS_WATCHED", 0.2)
    arguments = ["--methods", "dfad", "--seeds", "0", "--seconds", "1", "--out", "seconds"]
    variants = ["--with", "student_ema=0.5; batch_size=16", "--only-with"]
    done = CliRunner().invoke(run.main, ["methods", *arguments, *variants])
    assert done.exit_code == 0, done.output
    found = json.loads((folder / "seconds/methods.json").read_text())
    assert list(found) == ["dfad with student_ema=0.5; batch_size=16"]
    (changed,) = found["dfad with student_ema=0.5; batch_size=16"]
    assert "averaged_accuracy_final" in changed
    assert 2 <= changed["iterations"] < 350  # which is the dataset's
    refused = CliRunner().invoke(run.main, ["methods", *arguments, "--iterations", "3"])
    assert "give only one" in refused.output
    refused = CliRunner().invoke(run.main, ["methods", "--methods", "dfad", "--only-with"])
    assert "leaves nothing to run" in refused.output
