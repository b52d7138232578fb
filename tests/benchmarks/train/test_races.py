"""The benchmark of whole runs, on runs of a few iterations: that it counts rightly, not how well anything learns."""

import csv
import json

import pytest
from click.testing import CliRunner

from benchmarks import run
from benchmarks.measuring.process import Lost
from benchmarks.measuring.results import load
from benchmarks.measuring.settings import Settings
from benchmarks.train import command, races, report
from benchmarks.train.cases import CONTENDERS, EVALUATE_EVERY, Contender, Job
from benchmarks.train.contestant import Point, enter
from dfad_fast.methods import METHODS

FAST = Settings(threads=1, answer_seconds=120.0)
RACERS = (
    Contender("faithful", "dfad"),
    Contender("trainer", "dfad"),
    Contender("faithful", "no such method"),
)


class Inline:
    """Answers as a contender's process does, in this one: starting six of them would take most of the time."""

    def __init__(self, settings, allocator, folder, module):
        assert (allocator, module) == ("pinned", races.MODULE)
        self._device = settings.device

    def ask(self, name, *arguments):
        self._question = name, arguments

    def answer(self):
        name, arguments = self._question
        try:
            if name == "enter":
                self._contestant = enter(*arguments, self._device)
                return self._contestant.prepare()
            return getattr(self._contestant, name)(*arguments)
        except Exception as error:
            raise Lost(str(error)) from error

    def close(self):
        pass


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    teachers = tmp_path_factory.mktemp("teachers")
    job = Job(teachers=str(teachers), teacher_epochs=1, images=EVALUATE_EVERY + 2 * 768, seeds=(0, 1))
    told = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(races, "Process", Inline)
        results = races.run(job, RACERS, FAST, lambda *told_: told.append(told_))
    assert [done for done, _, _ in told] == list(range(told[0][1]))
    return results


def finished(accuracies, teacher=1.0):
    points = [Point(5 * i, 100 * i, 2.0, accuracy) for i, accuracy in enumerate(accuracies, 1)]
    return races.Run(0, teacher, points)


def test_a_share_counts_once_it_was_held_for_three_evaluations():
    assert finished([0.9, 0.9, 0.9]).reached(0.9) == {"seconds": 6.0, "images": 300}
    assert finished([0.9, 0.9, 0.8, 0.9, 0.9, 0.95]).reached(0.9) == {"seconds": 12.0, "images": 600}
    assert finished([0.5, 0.9, 0.9]).reached(0.9) is None
    assert finished([0.45, 0.45, 0.45], teacher=0.5).reached(0.9) is not None
    assert finished([]).reached(0.9) is None


def test_every_method_of_new_images_and_the_published_loop_take_part():
    banks = {"fast-2", "fast-5", "fast-10", "nayer", "cmi", "deepinversion", "adi", "tv-inversion", "psaq"}
    banks |= {"dfkd", "dream", "procedural", "procedural-inversion", "kegnet"}
    assert {c.method for c in CONTENDERS if c.loop == "trainer"} == set(METHODS) - banks
    assert {c.method for c in CONTENDERS if c.loop == "faithful"} == {"dfad"}
    assert len({c.name for c in CONTENDERS}) == len(CONTENDERS)


def test_a_run_is_complete(measured):
    again = json.loads(json.dumps(measured, allow_nan=False))
    assert (again["kind"], again["complete"]) == ("train", True)
    for found in again["rows"][:2]:
        assert found["problem"] is None
        assert found["seeds"] == [0, 1]
        assert [[p["iteration"] for p in curve] for curve in found["curves"]] == 2 * [[5, 7]]
        assert found["images"] == 7 * 6 * 128
        assert len(found["final_accuracies"]) == len(found["run_seconds"]) == 2
        assert all(f <= b for f, b in zip(found["final_accuracies"], found["best_accuracies"], strict=True))
        assert found["reached"] == {"90%": [None, None], "95%": [None, None], "97%": [None, None]}
        per_image = [
            p["seconds"] / n for curve in found["curves"] for p, n in zip(curve, (3840, 2 * 768), strict=True)
        ]
        assert found["seconds"] == pytest.approx(per_image)
    assert again["rows"][0]["teacher_accuracy"] == again["rows"][1]["teacher_accuracy"] > 0


def test_a_contender_that_fails_is_out_and_named(measured):
    assert "no such method" in measured["rows"][2]["problem"]
    assert "seconds" not in measured["rows"][2]


@pytest.mark.pictures
def test_report_and_files(measured, tmp_path):
    files = {file.name: file for file in report.save(measured, tmp_path)}
    assert set(files) == {"train.json", "train.csv", "train.md", "accuracy.png"}
    assert load(files["train.json"]) == json.loads(json.dumps(measured))
    with files["train.csv"].open() as stream:
        assert len(list(csv.DictReader(stream))) == len(measured["rows"])
    text = files["train.md"].read_text()
    assert "| exact dfad |" in text
    assert "never" in text
    assert "out: " in text
    sheet = report.sheet(measured)
    assert all(len(line) == len(sheet.columns) for line in sheet.lines)


def test_shares_in_words():
    reached = {"seconds": 12.34, "images": 5000}
    assert report._reached([reached, reached]) == "12.3 s, 5,000"
    assert report._reached([reached, None]) == "1 of 2 seeds: 12.3 s, 5,000"
    assert report._reached([None]) == "never"


def test_requests_that_cannot_be_met(tmp_path):
    def told(*arguments):
        return CliRunner().invoke(run.main, ["train", "--out", str(tmp_path / "out"), *arguments])

    missing = told("--dataset", "fashion-mnist", "--data-dir", str(tmp_path / "none"))
    assert missing.exit_code == 1
    assert missing.output.strip().splitlines()[-1].startswith("Error: fashion-mnist: the data folder")
    assert "expected whole numbers" in told("--seeds", "0,x").output
    assert not list(tmp_path.iterdir())


def test_the_command_line_asks_for_what_it_was_told(monkeypatch, tmp_path, measured):
    asked = {}

    def fake(job, contenders, settings, tell):
        asked.update(job=job, contenders=contenders)
        return {**measured, "rows": measured["rows"][:2]}

    monkeypatch.setattr(races, "run", fake)
    done = CliRunner().invoke(run.main, ["train", "--quick", "--seeds", "4", "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert (asked["job"].seeds, asked["job"].images) == ((4,), command.QUICK_IMAGES)
    assert 1 < len(asked["contenders"]) < len(CONTENDERS)
    CliRunner().invoke(run.main, ["train", "--images", "900", "--out", str(tmp_path)])
    assert (asked["job"].seeds, asked["job"].images) == ((0, 1, 2), 900)
    assert len(asked["contenders"]) == len(CONTENDERS)
