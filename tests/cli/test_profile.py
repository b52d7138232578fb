import json

import pytest

from dfad_fast.profiling import flops as arithmetic


@pytest.fixture(autouse=True)
def _small_matrices(monkeypatch):
    monkeypatch.setattr(arithmetic, "_SIDE", 64)


@pytest.fixture
def own_job(own):
    """The user's own networks, without what only a run has."""
    left_out = {own.index("--out"), own.index("--iterations")}
    return [a for i, a in enumerate(own) if i not in left_out and i - 1 not in left_out]


SHORT = ("--iterations", "2", "--warm-up", "1")


def test_a_table_and_the_same_as_data(dfad_fast, own_job, tmp_path):
    done = dfad_fast("profile", *own_job, *SHORT, "--json", "profiles/mine.json")
    assert done.code == 0, done.err
    for line in ("generator backward", "teacher forward", "student backward", "losses", "optimizers"):
        assert line in done.out
    for line in ("sum of the parts", "without the hooks", "generated images/s", "matrix products, float32"):
        assert line in done.out
    assert "peak resident memory" in done.out
    assert "lever fold_teacher: on" in done.out
    data = json.loads((tmp_path / "profiles/mine.json").read_text())
    assert data["iterations"] == 2
    assert data["method"] == "dfad-ar-vi-bn"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["own.py", "profiles", "teacher.pt"]


def test_no_teacher_is_trained_for_a_profile(dfad_fast, tmp_path):
    done = dfad_fast("profile", "--dataset", "digits", "--batch-size", "4", *SHORT, "--method", "dfad")
    assert done.code == 0, done.err
    assert "teacher: resnet8-w32 with initial weights; none is trained for this" in done.out
    assert list(tmp_path.iterdir()) == []


def test_a_runs_config_says_what_to_profile(dfad_fast, own, tmp_path):
    assert dfad_fast("distill", *own, "--method", "dfad-vi", "--quiet").code == 0
    before = sorted((tmp_path / "run").iterdir())
    done = dfad_fast("profile", "--config", "run", "--warm-up", "0", "--iterations", "1")
    assert done.code == 0, done.err
    assert "0 iterations to warm up, then 1 without hooks and 1 with" in done.out
    assert "dfad-vi, batches of 32" in done.out
    assert sorted((tmp_path / "run").iterdir()) == before


def test_quiet_prints_nothing(dfad_fast, own_job, tmp_path):
    done = dfad_fast("profile", *own_job, *SHORT, "--quiet", "--json", "p.json")
    assert (done.code, done.out, done.err) == (0, "", "")
    assert (tmp_path / "p.json").exists()


@pytest.mark.parametrize(
    ("options", "message", "code"),
    [
        (("--iterations", "0"), "--iterations must be at least 1, got 0", 2),
        (("--warm-up", "-1"), "--warm-up must be at least 0, got -1", 2),
        (("--json", "own.py/p.json"), "cannot write to folder own.py", 1),
        (("--method", "dfda"), "did you mean 'dfkd' or 'dfad'", 2),
        (("--out", "run"), "No such option", 2),
    ],
)
def test_a_wrong_request_is_one_line(dfad_fast, own_job, options, message, code):
    done = dfad_fast("profile", *own_job, *options)
    assert done.code == code
    assert message in done.err
    assert done.err.count("\n") == 1
