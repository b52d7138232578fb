"""That ``all`` measures everything, and what it leaves out."""

from click.testing import CliRunner

from benchmarks import run
from benchmarks.all import command


def test_all_measures_everything_and_quick_leaves_the_slow_out(monkeypatch, tmp_path):
    asked = []

    def note(name):
        def measure(options, **more):
            asked.append((name, options.quick, options.out, more))
            return [name]

        return measure

    for name in ("ops", "step", "train"):
        monkeypatch.setattr(f"benchmarks.{name}.command.measure", note(name))
    done = CliRunner().invoke(run.main, ["all", "--quick", "--out", str(tmp_path)])
    assert done.exit_code == 1
    assert done.output == "Error: failed, see above: ops, step, train\n"
    assert asked == [
        ("ops", True, tmp_path / "ops", {"with_compile": False, "unpinned": False, "halves": False}),
        ("step", True, tmp_path / "step", {}),
        ("train", True, tmp_path / "train", {"images": None}),
    ]
    asked.clear()
    CliRunner().invoke(run.main, ["all", "--out", str(tmp_path)])
    assert asked[0] == (
        "ops",
        False,
        tmp_path / "ops",
        {"with_compile": True, "unpinned": True, "halves": False},
    )
    assert asked[2] == ("train", False, tmp_path / "train", {"images": command.IMAGES})
