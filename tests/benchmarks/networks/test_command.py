"""``run.py networks`` on a few images of small networks."""

import json

import pytest
from click.testing import CliRunner

from benchmarks import run
from benchmarks.networks import races
from dfad_fast import backends


@pytest.mark.skipif(backends.extension is None, reason="no extension was built")
def test_students_and_teachers_have_a_row_each_and_answer_as_eager_does(tmp_path, monkeypatch):
    monkeypatch.setattr(races, "BATCH", 4)
    options = (
        "--students",
        "resnet10-w8",
        "--teachers",
        "resnet10-w16",
        "--rounds",
        "1",
        "--out",
        str(tmp_path),
    )
    done = CliRunner().invoke(run.main, ["networks", *options])
    assert done.exit_code == 0, done.output
    rows = json.loads((tmp_path / "networks.json").read_text())["rows"]
    assert [(row["role"], row["network"]) for row in rows] == [
        ("student", "resnet10-w8"),
        ("teacher", "resnet10-w16"),
    ]
    for row in rows:
        assert set(row["seconds"]) == {"eager", "eager, channels_last", "dfad_fast"}
        assert all(0 < seconds < 60 for seconds in row["seconds"].values())
        assert 0 < row["apart"] < 1e-4  # 0 would mean that the package's kernels did not run
    assert "student resnet10-w8, 1x28x28" in (tmp_path / "networks.md").read_text()
