import json

import pytest


@pytest.fixture
def runs(dfad_fast, own, tmp_path):
    for method, seed in (("dfad", 0), ("dfad", 1), ("dfad-vi", 0)):
        done = dfad_fast(
            "distill", *own[:-2], "--method", method, "--seed", seed, "--out", f"{method}-{seed}", "--quiet"
        )
        assert done.code == 0, done.err
    return ["dfad-0", "dfad-1", "dfad-vi-0"]


@pytest.mark.pictures
def test_seeds_of_the_same_settings_are_one_row(dfad_fast, runs, tmp_path):
    finals = {"dfad-0": 0.5, "dfad-1": 0.7, "dfad-vi-0": 0.9}
    for run, final in finals.items():
        path = tmp_path / run / "summary.json"
        changed = {"student_accuracy_final": final, "teacher_accuracy": 0.95, "agreement_final": None}
        path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))
    done = dfad_fast("compare", *runs, tmp_path / "dfad-1", "--out", "pictures/all.png")
    assert done.code == 0, done.err
    rows = [line.split() for line in done.out.splitlines() if line.strip().startswith("dfad")]
    assert [row[0] for row in rows] == ["dfad", "dfad-vi"]
    assert "0, 1 " in done.out
    assert "60.00 ± 14.14" in done.out
    assert "teacher: 95.00 %" in done.out
    assert "90.00" in done.out
    assert "dfad-vi (dfad-vi-0)" in done.out
    assert (tmp_path / "pictures/all.png").read_bytes().startswith(b"\x89PNG")


def test_runs_without_test_images_are_compared_on_generated_ones(dfad_fast, runs, tmp_path, monkeypatch):
    from matplotlib.axes import Axes

    drawn, plot = [], Axes.plot
    monkeypatch.setattr(Axes, "plot", lambda axis, *a, **k: drawn.append(k["label"]) or plot(axis, *a, **k))
    summaries = [json.loads((tmp_path / run / "summary.json").read_text()) for run in runs]
    done = dfad_fast("compare", "dfad-0", "dfad-vi-0")
    assert done.code == 0, done.err
    for summary, name in ((summaries[0], "dfad (dfad-0)"), (summaries[2], "dfad-vi (dfad-vi-0)")):
        row = next(line for line in done.out.splitlines() if name in line)
        assert f"{100 * summary['agreement_generated']:.2f}" in row
        assert f"{summary['discrepancy_generated']:.3f}" in row
        assert f"{summary['effective_classes_generated']:.1f} of 3" in row
        for notice in summary["notices"]:
            assert notice in done.out
    assert drawn == ["dfad", "dfad-vi"]


def test_settings_that_set_runs_apart_are_named(dfad_fast, own, runs, tmp_path):
    more = ["--method", "dfad", "--replay", "2", "--out", "replayed", "--quiet"]
    assert dfad_fast("distill", *own[:-2], *more).code == 0
    done = dfad_fast("compare", "dfad-0", "replayed")
    assert "dfad, replay=0 (dfad-0)" in done.out
    assert "dfad, replay=2 (replayed)" in done.out
    config = tmp_path / "dfad-1/config.yaml"
    assert "best_by: auto" in config.read_text()
    config.write_text(config.read_text().replace("best_by: auto", "best_by: agreement"))
    assert (
        "best_by" not in dfad_fast("compare", "dfad-0", "dfad-1").out
    )  # which student is kept changes no run


def test_a_name_is_no_markup_and_a_torn_line_no_end(dfad_fast, runs, tmp_path):
    (tmp_path / "dfad-0").rename(tmp_path / "a[red]b[]")
    with (tmp_path / "a[red]b[]/metrics.jsonl").open("a") as file:
        file.write('{"iteration": 4, "torn')
    done = dfad_fast("compare", "a[red]b[]", "dfad-vi-0")
    assert done.code == 0, done.err
    assert "dfad (a[red]b[])" in done.out


def test_what_is_no_ended_run_is_one_line(dfad_fast, runs, tmp_path):
    assert (
        "--out must be a picture, NAME.png, got table.csv"
        in dfad_fast("compare", *runs, "--out", "table.csv").err
    )
    (tmp_path / "dfad-1/summary.json").write_text("{}")
    assert "summary.json lacks method, seed" in dfad_fast("compare", "dfad-1").err
    missing = dfad_fast("compare", "dfad-0", "nowhere")
    assert (missing.code, missing.err.count("\n")) == (2, 1)
    assert "nowhere holds no run that has ended" in missing.err
    (tmp_path / "dfad-0/summary.json").write_text("{")
    damaged = dfad_fast("compare", "dfad-0")
    assert (damaged.code, damaged.err.count("\n")) == (2, 1)
    assert "dfad-0/summary.json is damaged" in damaged.err
    assert "leave the run out, or repeat it" in damaged.err
