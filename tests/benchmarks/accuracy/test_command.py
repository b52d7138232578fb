import json

import pytest
from click.testing import CliRunner

from benchmarks import run
from benchmarks.accuracy import runs

STUDY = """
seeds: [0]
baseline: plain
settings: {teacher: resnet10-w8, teacher_epochs: 1, student: resnet10-w8, iterations: 2, batch_size: 8}
data: {digits: {dataset: digits}}
arms:
  plain: {method: dfad}
  real images: {method: dfad, source: "folder(path='{real}')", student_terms: l1}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory, forking):
    with forking():
        yield tmp_path_factory.mktemp("accuracy")


def study(*arguments):
    return CliRunner().invoke(run.main, ["accuracy", "study.yaml", "--out", "out", *arguments])


def test_a_study_runs_what_is_missing(folder, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "study.yaml").write_text(STUDY.replace("dataset: digits", "dataset: digts"))
    refused = study("--only-report")
    assert refused.exit_code == 1
    assert "nothing to report" in refused.output
    refused = study()
    assert refused.exit_code == 1
    assert "lost: digits, plain, seed 0: UsageError: unknown dataset 'digts'" in refused.output
    assert "these runs did not finish" not in refused.output

    (folder / "study.yaml").write_text(STUDY)
    done = study()
    assert done.exit_code == 0, done.output
    assert "2 runs, 0 done" in done.output
    records = runs.read_records(folder / "out")
    assert [record["arm"] for record in records] == ["plain", "real images"]
    real = records[1]
    assert (real["summary"]["generated_images"], real["summary"]["student_passes"] > 0) == (0, True)
    assert real["curve"][-1]["student_passes"] == real["summary"]["student_passes"]
    assert "| real images | 1 | " in (folder / "out/accuracy.md").read_text()
    assert (folder / "out/digits.png").exists()

    # One line was cut off, as by a full disk: its run is complete and is not run again.
    path = folder / "out/runs.jsonl"
    first, second = path.read_text().splitlines()
    path.write_text(f"{second}\n{first[:40]}")
    done = study()
    assert done.exit_code == 0, done.output
    assert "2 runs, 1 done" in done.output
    again = runs.read_records(folder / "out")
    assert [record["arm"] for record in again] == ["real images", "plain"]
    same = ("student_accuracy_final", "generated_images", "iterations", "seconds_distill")
    assert [again[1]["summary"][name] for name in same] == [records[0]["summary"][name] for name in same]
    assert again[1]["curve"] == records[0]["curve"]


def test_what_is_no_study_is_a_users_mistake(folder, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "study.yaml").write_text(json.dumps({"arms": {}}))
    refused = study()
    assert refused.exit_code == 2
    assert "study.yaml: data: expected a mapping" in refused.output
