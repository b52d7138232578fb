import html
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import pytest
import yaml

from dfad_fast.errors import DFADFastWarning, RunError, UsageError
from dfad_fast.reporting.report_page import page
from dfad_fast.reporting.report_page.page import write_page
from dfad_fast.runs import checkpoints, layout, sheet_file

HOSTILE = "<script>alert(1)</script>\"'&</style>"
ROOT = Path(__file__).parents[3]


class Text(HTMLParser):
    """What a person reads of a page, and what it refers to."""

    def __init__(self, text):
        super().__init__()
        self.words, self.tags, self.references = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.references += [value for name, value in attributes if name in ("src", "href", "srcset", "data")]

    def handle_data(self, data):
        if self.tags[-1:] not in (["script"], ["style"]):
            self.words.append(data)

    @property
    def words_together(self):
        return " ".join(" ".join(self.words).replace("\u00a0", " ").split())


def read_page(folder):
    return (write_page(folder)).read_text(encoding="utf-8")


def words_of(folder):
    return Text(read_page(folder)).words_together


def edit(path, parse, dump, **changes):
    path.write_text(dump({**parse(path.read_text()), **changes}))


def test_a_finished_run_is_told_in_full(finished):
    text, words = read_page(finished), words_of(finished)
    summary = json.loads((finished / "summary.json").read_text())
    accuracy = f"{100 * summary['student_accuracy_final']:.2f} %"
    for expected in (
        "run own.py:big → own.py:small dfad-ar-vi-bn, seed 0",
        "The run finished all 6 iterations in",
        f"on 288 generated images, with {summary['teacher_passes']} through the teacher and "
        f"{summary['student_passes']} through the student; no real image was used for it.",
        f"Student's accuracy {accuracy} teacher {100 * summary['teacher_accuracy']:.2f} %",
        f"Agreement, test images {100 * summary['agreement_final']:.2f} %",
        "Accuracy and agreement",
        "boundary",
        "batch_norm",
        "Learning rates",
        "at iteration 6, each with the teacher's label",
        "The same noise over the run",
        "The command that repeats the run: dfad-fast distill --config",
        "0.1 * ActivationBoundary(margin=1.0",
        "checkpoint.pt 6",
        "CPU threads 1",
        summary["versions"]["torch"],
        "Left out of this page: inspect.json is missing: run dfad-fast inspect to create it",
    ):
        assert expected in words, expected
    assert html.escape((finished / "config.yaml").read_text()).splitlines()[1] in text
    assert "dfad-fast resume" not in words
    last = sheet_file.read(layout.sheets_in(finished)[-1])
    assert text.count('alt="generated image: teacher') == len(last.images) == 32
    assert text.count("<figcaption>") == 6 + 6  # charts and moments
    apart = sum(t != s for t, s in zip(last.teacher, last.student, strict=True))
    assert f"The networks agree on {32 - apart} of 32." in words


def test_the_page_is_written_at_the_end_of_a_run(finished):
    kept = (finished / "report.html").read_text()
    assert "The run finished all 6 iterations" in kept
    assert len(kept) < 200_000


def test_a_collapsed_generator_and_the_best_student_are_told(finished):
    notice = "all images are alike"
    best = {"iteration": 4, "by": "test accuracy", "value": 0.5}
    edit(finished / "summary.json", json.loads, json.dumps, notices=[notice], best_student=best)
    words = words_of(finished)
    assert f"Warning: {notice}." in words
    assert "Best student, iteration 4, by test accuracy 50.00 %" in words
    assert "Classes that the teacher sees in these" in words
    assert "Classes of held-out generated images" in words
    edit(
        finished / "summary.json", json.loads, json.dumps, notices=5, best_student=[], classes_generated=None
    )
    assert "summary: values that cannot be shown" in words_of(finished)


def test_a_picture_of_samples_that_is_too_large_is_left_out(finished, monkeypatch):
    from dfad_fast.runs import record

    for path in layout.sheets_in(finished):
        path.unlink()
    assert 'alt="Generated images with' in read_page(finished)
    monkeypatch.setattr(record, "_LARGEST_PICTURE", 2**10)
    assert "samples.png cannot be read: more than" in words_of(finished)


def test_nothing_is_fetched_from_anywhere(finished):
    text = read_page(finished)
    assert all(reference.startswith("data:image/png;base64,") for reference in Text(text).references)
    without_namespaces = text.replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?:|//[a-z]+\.|@import|url\(", without_namespaces)
    assert "default-src 'none'" in text


def test_hostile_text_is_only_text(finished, tmp_path):
    folder = finished.rename(tmp_path / HOSTILE.replace("/", "\u2044"))
    distill = {"teacher": HOSTILE, "student": f"x{HOSTILE}"}
    edit(
        folder / "config.yaml",
        yaml.safe_load,
        yaml.safe_dump,
        distill=distill,
        repeat=HOSTILE,
        terms={HOSTILE: [HOSTILE]},
        changes=[{"at_iteration": HOSTILE, HOSTILE: HOSTILE}],
    )
    edit(
        folder / "summary.json",
        json.loads,
        json.dumps,
        method=HOSTILE,
        seed=HOSTILE,
        device=HOSTILE,
        versions={HOSTILE: HOSTILE},
        sign_agreement_generated={HOSTILE: 0.5},
    )
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    hostile = [{**line, f"student/{HOSTILE}": 1.0} for line in lines]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in hostile))
    (folder / "traceback.txt").write_text(f"Traceback\n{HOSTILE}")
    text = read_page(folder)
    assert HOSTILE not in text
    assert "alert(1)</script>" not in text
    parsed = Text(text)
    # Charts with their data, and the page's own.
    assert parsed.tags.count("script") == text.count("application/json") + 1
    assert parsed.tags.count("style") == 1
    assert text.count("alert(1)") >= 12


def test_an_interrupted_run_says_so(fit, tmp_path):
    class Stop:
        def advance(self, iteration):
            if iteration == 3:
                import signal

                signal.raise_signal(signal.SIGINT)

        def log(self, record):
            pass

    folder = tmp_path / "my run"
    with pytest.raises(KeyboardInterrupt):
        fit(folder, 6, progress=Stop())
    words = Text((folder / "report.html").read_text()).words_together
    assert "interrupted my run" in words
    assert "The run was interrupted at iteration 3 of 6." in words
    assert f"To resume it: dfad-fast resume '{folder}'" in words
    # Without test images.
    assert "with the teacher, held-out generated images" in words
    assert "Student's accuracy" not in words


@pytest.mark.parametrize("error", [ZeroDivisionError("of my own"), RunError("is not finite")])
def test_a_failed_run_says_why(fit, tmp_path, monkeypatch, error):
    from dfad_fast.engine.distiller import Distiller

    step = Distiller.step

    def fails(self):
        if self.state.iteration == 2:
            raise error
        return step(self)

    monkeypatch.setattr(Distiller, "step", fails)
    with pytest.raises(RunError):
        fit(tmp_path / "run", 6)
    words = Text((tmp_path / "run/report.html").read_text()).words_together
    assert "The run failed; the last record is at iteration 2 of 6." in words
    assert str(error) in words
    assert "Where it failed Traceback (most recent call last):" in words


def test_a_loss_that_is_nan_stands_in_the_folder_and_on_the_page(fit, tmp_path, monkeypatch):
    from dfad_fast.engine.losses import Losses, NotFinite

    take = Losses.take
    monkeypatch.setattr(Losses, "take", lambda self: (take(self)[0], NotFinite("student/l1", 1)))
    with pytest.raises(RunError):
        fit(tmp_path / "run", 6)
    assert (tmp_path / "run/traceback.txt").read_text().startswith("RunError: student/l1 is not finite")
    words = Text((tmp_path / "run/report.html").read_text()).words_together
    assert "The run failed; nothing was recorded before. RunError: student/l1 is not finite" in words
    assert "student/l1 is not finite at iteration 1" in words


def test_a_killed_run_has_no_end(finished):
    (finished / "summary.json").unlink()
    words = words_of(finished)
    assert "The last record is at iteration 6 of 6, and no end was recorded" in words
    assert "summary.json is not there" in words
    assert "at the last evaluation" in words


def test_a_summary_of_before_is_said_to_be_old(finished):
    edit(finished / "summary.json", json.loads, json.dumps, iterations=4)
    words = words_of(finished)
    assert "no end was recorded" in words
    assert "Summary of iteration 4, after which the run continued" in words


def test_an_older_run_shows_its_pictures_and_says_what_is_missing(finished):
    for path in layout.sheets_in(finished):
        path.unlink()
    (finished / "metrics.jsonl").unlink()
    text, words = read_page(finished), words_of(finished)
    assert text.count('<img class="picture" src="data:image/png;base64,') == 2
    assert "metrics.jsonl is not there" in words
    assert "samples/ holds no images from the run" in words


@pytest.mark.parametrize("kept", ["config.yaml", "metrics.jsonl", "summary.json"])
def test_any_one_file_is_enough(finished, kept):
    for path in finished.iterdir():
        if path.is_file() and path.name != kept:
            path.unlink()
    assert "Left out of this page" in words_of(finished)


_ODD = (
    "{",
    "[1]",
    "null",
    "\xff",
    "[" * 10_000,
    '{"iterations": "many", "versions": 3}',
    '{"iteration": 1, "generated_images": 1, "student/l1": NaN, "agreement_batch": 1e999}',
    f'{{"iteration": 1, "generated_images": 1{"0" * 400}, "student/l1": 1e308, "student/b": -1e308}}',
)


@pytest.mark.parametrize("damage", _ODD, ids=range(len(_ODD)))
def test_damaged_files_are_left_out(finished, damage):
    for name in ("summary.json", "config.yaml", "inspect.json", "metrics.jsonl"):
        (finished / name).write_text(damage, encoding="latin-1")
    layout.sheets_in(finished)[0].write_bytes(b"no picture")
    (finished / "checkpoint.pt").write_bytes(b"torn")
    words = words_of(finished)
    assert "samples/000001.png cannot be read" in words
    assert "checkpoint.pt damaged" in words
    assert "Generated images" in words


def test_what_was_inspected_is_shown(finished):
    network = {
        "accuracy": 0.75,
        "calibration": {"error": 0.125, "bins": 2, "confidence": [None, 0.9], "accuracy": [None, 0.8]},
    }
    lines = {"pairs": 9, "lam": [0, 1], "agreement": [1, 0.5], "l1": [0, 1]}
    data = {
        "iteration": 6,
        "dataset": "digits",
        "images": "real",
        "compared": 100,
        "labeled": 100,
        "generated": 50,
        "teacher": network,
        "student": network,
        "agreement": 0.625,
        "lines": {**lines, "mean_agreement": 0.75, "mean_l1": 0.5},
        "stages": [{"teacher": "a#0", "student": "b#0", "cka": 0.875, "sign_agreement": None}],
        "balance": {"counts": [40, 10], "entropy": 0.72},
        "missing": ["something"],
    }
    (finished / "inspect.json").write_text(json.dumps(data))
    words = words_of(finished)
    for expected in (
        "Inspection at iteration 6, on 100 digits test images",
        "Expected calibration error 12.50 % 12.50 %",
        "Agreement on 9 lines 75.00 %",
        "a#0 b#0 0.875 \u2013",
        "Calibration: accuracy by confidence",
        "Agreement between images",
        "0 40 1 10",
        "Not measured: something",
    ):
        assert expected in words, expected
    assert "inspect.json is not there" not in words
    del data["stages"]
    (finished / "inspect.json").write_text(json.dumps(data))
    assert "inspection: values that cannot be shown (KeyError: 'stages')" in words_of(finished)


def test_many_records_stay_one_small_page(finished):
    first = json.loads((finished / "metrics.jsonl").read_text().splitlines()[0])
    with (finished / "metrics.jsonl").open("w") as file:
        for i in range(1, 20_001):
            file.write(json.dumps({**first, "iteration": i, "generated_images": 48 * i}) + "\n")
    assert len(read_page(finished)) < 400_000


def test_a_page_that_cannot_be_made_is_no_reason_to_lose_a_run(fit, tmp_path, monkeypatch):
    def fails(_):
        raise RuntimeError("of the page")

    monkeypatch.setattr(page, "render", fails)
    with pytest.warns(DFADFastWarning, match="not written in .*: report.html .RuntimeError: of the page"):
        fit(tmp_path / "run", 2)
    assert (tmp_path / "run/summary.json").exists()
    assert checkpoints.read(tmp_path / "run")["iteration"] == 2


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"holds no run \(config.yaml, metrics.jsonl, summary.json\): give"):
        write_page(tmp_path)


def test_the_installed_package_has_the_pages_files(tmp_path):
    for name in ("page.html", "page.css", "page.js"):
        assert (files("dfad_fast.reporting.report_page") / name).read_text(encoding="utf-8")
    build = ("egg_info", "--egg-base", tmp_path, "build_py", "--build-lib", tmp_path / "lib")
    subprocess.run(
        [sys.executable, "setup.py", "-q", *build],
        cwd=ROOT,
        env={**os.environ, "DFAD_FAST_BUILD": "0"},
        check=True,
        capture_output=True,
    )
    held = {path.name for path in (tmp_path / "lib/dfad_fast/reporting/report_page").iterdir()}
    assert {"page.html", "page.css", "page.js", "page.py"} <= held
