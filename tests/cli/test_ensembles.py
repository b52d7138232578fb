"""Ensembles of teachers on the command line: by their weights, trained here, recorded and looked at again."""

import hashlib
import json

import pytest
import torch
import yaml

from dfad_fast.models import load_factory_network

WEIGHTS = ("--teacher-weights", "teacher.pt", "--teacher-weights", "second.pt::ema")


@pytest.fixture
def two(own, tmp_path):
    """The options of ``own`` with a second member, and the members' weights in files."""
    torch.manual_seed(1)
    state = load_factory_network(f"{tmp_path}/own.py:teacher").state_dict()
    torch.save({"ema": state}, tmp_path / "second.pt")
    return [*WEIGHTS, *(a for a in own if a not in ("--teacher-weights", "teacher.pt"))]


def config_of(folder):
    return yaml.safe_load((folder / "config.yaml").read_text())


def test_members_by_their_weights_are_recorded_repeated_resumed_and_inspected(dfad_fast, two, tmp_path):
    from safetensors.torch import load_file

    means = ("--ensemble-mean", "probabilities", "--ensemble-weights", "3,1")
    done = dfad_fast("distill", *two, *means)
    assert done.code == 0, done.err
    assert "sign agreement, members.0.2#0" in done.out
    config = config_of(tmp_path / "run")
    assert config["ensemble"] == {"members": 2, "mean": "probabilities", "weights": [0.75, 0.25]}
    assert config["distill"]["teacher_weights"] == [f"{tmp_path}/teacher.pt", f"{tmp_path}/second.pt::ema"]
    digests = [
        hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in ("teacher.pt", "second.pt")
    ]
    assert config["teacher_weights_sha256"] == digests
    assert dfad_fast("distill", "--config", "run", "--out", "repeated").code == 0
    first, second = (load_file(tmp_path / name / "student.safetensors") for name in ("run", "repeated"))
    assert all(bool((first[key] == second[key]).all()) for key in first)
    assert "own.py:teacher, 2 of them" in (tmp_path / "run/report.html").read_text()
    assert "run is complete" in dfad_fast("resume", "run").err
    for command in (
        ("inspect", "run", "--samples", "32"),
        ("report", "run"),
        ("images", "run", "--count", "4"),
    ):
        done = dfad_fast(*command)
        assert done.code == 0, (command, done.err)
    done = dfad_fast("export", "run", "--format", "safetensors")
    assert done.code == 0, done.err
    (tmp_path / "second.pt").write_bytes((tmp_path / "teacher.pt").read_bytes())
    done = dfad_fast("inspect", "run")
    assert (done.code, done.err.count("\n")) == (2, 1)


def test_members_are_trained_here_each_by_its_seed(dfad_fast, tmp_path):
    small = ("--batch-size", "32", "--latent-dim", "8", "--iterations", "1", "--method", "dfad")
    options = ("--dataset", "digits", "--teacher-epochs", "1", "--teacher-count", "2", "--teacher-seed", "4")
    done = dfad_fast("distill", *options, *small, "--out", "run")
    assert done.code == 0, done.err
    trained = sorted(
        path.stem.rpartition("-")[2] for path in (tmp_path / "runs/teachers").glob("*.safetensors")
    )
    assert trained == ["seed4", "seed5"]
    assert config_of(tmp_path / "run")["ensemble"]["members"] == 2
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    single = dfad_fast("distill", *options, *small, "--teacher-count", "1", "--out", "single")
    assert "(trained before)" in single.out
    alone = json.loads((tmp_path / "single/summary.json").read_text())
    assert summary["teacher_parameters"] == 2 * alone["teacher_parameters"]


def test_a_run_of_one_teacher_records_none(dfad_fast, own, tmp_path):
    assert dfad_fast("distill", *own).code == 0
    config = config_of(tmp_path / "run")
    assert config["ensemble"] is None
    assert isinstance(config["teacher_weights_sha256"], str)
    # As runs of before wrote it.
    config["distill"]["teacher_weights"] = config["distill"]["teacher_weights"][0]
    (tmp_path / "run/config.yaml").write_text(yaml.safe_dump(config))
    assert "run is complete" in dfad_fast("resume", "run").err
    assert dfad_fast("inspect", "run", "--samples", "32").code == 0


@pytest.mark.parametrize(
    ("further", "told"),
    [
        (("--ensemble-mean", "median"), "unknown mean of an ensemble 'median'"),
        (("--ensemble-weights", "1,2,3"), "an ensemble of 2 members needs 2 weights, got 3"),
        (("--teacher-count", "2"), "--teacher-count is for teachers trained here"),
        (("--teacher-weights", "gone.pt"), "no weights file gone.pt"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_line(dfad_fast, two, further, told):
    done = dfad_fast("distill", *two, *further)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert told in done.err


def test_weights_of_a_single_teacher_are_refused(dfad_fast, own):
    done = dfad_fast("distill", *own, "--ensemble-weights", "1")
    assert done.code == 2
    assert "--ensemble-weights is for several teachers" in done.err
