import json

from click.testing import CliRunner

from benchmarks import methods


def test_methods_are_compared_at_equal_images(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["--methods", "dfad,dfad-ar-vi-bn", "--seeds", "0,1", "--iterations", "2", "--out", "out"]
    done = CliRunner().invoke(methods.main, arguments)
    assert done.exit_code == 0, done.output
    runs = json.loads((tmp_path / "out/methods.json").read_text())
    assert {name: [run["seed"] for run in rows] for name, rows in runs.items()} == {
        "dfad": [0, 1],
        "dfad-ar-vi-bn": [0, 1],
    }
    assert len({run["generated_images"] for rows in runs.values() for run in rows}) == 1
    table = (tmp_path / "out/methods.md").read_text()
    mean = sum(run["student_accuracy_final"] for run in runs["dfad"]) / 2
    assert f"| `dfad` | {100 * mean:.2f} ± " in table


def test_unknown_methods_are_refused_before_anything_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(methods.main, ["--methods", "dfad,dfda"])
    assert done.exit_code == 2
    assert "did you mean 'dfad'" in done.output
    assert not list(tmp_path.iterdir())
