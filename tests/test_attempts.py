"""What a run leaves when not everything can be saved, drawn or measured at its end."""

import json
import resource
import sys

import pytest
from safetensors.torch import load_file

from dfad_fast import DFADTrainer
from dfad_fast.attempts import Attempts
from dfad_fast.errors import DFADFastWarning, RunError
from dfad_fast.reporting import pictures
from dfad_fast.runs.folder import RunFolder
from tests.training.test_trainer import SHAPE, SMALL, same, weights


def names(folder):
    return {path.name for path in folder.iterdir()}


WEIGHTS = {"student.safetensors", "student_best.safetensors", "generator.safetensors", "checkpoint.pt"}
PICTURES = {"samples.png", "curves.png", "report.html"}


@pytest.fixture
def small_files():
    """Makes the disk full, as it were: no file grows beyond so many bytes."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


class At:
    def __init__(self, iteration, do):
        self.iteration, self.do = iteration, do

    def advance(self, iteration):
        if iteration == self.iteration:
            self.do()

    def log(self, record):
        pass


@pytest.mark.parametrize("stopped", [False, True])
def test_a_full_disk_at_the_end_takes_what_fits_the_student_first(pair, tmp_path, small_files, stopped):
    trainer = DFADTrainer(*pair, SHAPE, "dfad", out=tmp_path, **SMALL)

    def fill():
        small_files(20_000)
        if stopped:
            trainer.stop()

    with (
        pytest.warns(
            DFADFastWarning, match=r"not written in .*: samples.png, curves.png, report.html \(File too"
        ),
        pytest.raises(RunError, match=r"generator.safetensors, checkpoint.pt \(File too large\): make room"),
    ):
        trainer.fit(3, progress=At(2, fill), log_every=1, evaluate_every=1)
    assert same(load_file(tmp_path / "student.safetensors"), weights(trainer.networks.student))
    assert json.loads((tmp_path / "summary.json").read_text())["iterations"] == (2 if stopped else 3)
    assert names(tmp_path) & (WEIGHTS | PICTURES) == {"student.safetensors", "student_best.safetensors"}
    small_files(resource.getrlimit(resource.RLIMIT_FSIZE)[1])
    trainer.save()
    assert names(tmp_path) >= WEIGHTS | PICTURES


def test_a_student_that_cannot_be_written_costs_nothing_else(pair, tmp_path, monkeypatch):
    write = RunFolder.write_weights

    def fails(self, name, *state):
        if name == "student.safetensors":
            raise RunError("no room for it")
        write(self, name, *state)

    monkeypatch.setattr(RunFolder, "write_weights", fails)
    with pytest.raises(
        RunError, match=r"student.safetensors \(no room for it\): .*resume with dfad-fast resume"
    ):
        DFADTrainer(*pair, SHAPE, "dfad", out=tmp_path, **SMALL).fit(1)
    assert names(tmp_path) & (WEIGHTS | PICTURES) == (WEIGHTS | PICTURES) - {"student.safetensors"}


@pytest.mark.parametrize(
    ("breaks", "missing"),
    [
        ("matplotlib.figure", {"samples.png", "curves.png"}),
        ("jinja2", {"report.html"}),
        (None, {"curves.png"}),
    ],
)
def test_pictures_that_cannot_be_drawn_are_one_line(pair, tmp_path, monkeypatch, breaks, missing):
    def fails(*_):
        raise ZeroDivisionError("amid a picture")

    if breaks:
        monkeypatch.setitem(sys.modules, breaks, None)
    else:
        monkeypatch.setattr(pictures, "draw_curves", fails)
    with pytest.warns(DFADFastWarning, match="not written in") as caught:
        DFADTrainer(*pair, SHAPE, "dfad", out=tmp_path, **SMALL).fit(1)
    told = [str(w.message) for w in caught if "not written" in str(w.message)]
    assert len(told) == 1
    assert all(name in told[0] for name in missing)
    assert (WEIGHTS | PICTURES | {"summary.json"}) - names(tmp_path) == missing


def test_sheets_that_cannot_be_drawn_during_the_run_do_not_end_it(pair, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.warns(
        DFADFastWarning, match=r"samples/ \(ModuleNotFoundError.*training continues without it"
    ):
        DFADTrainer(*pair, SHAPE, "dfad", out=tmp_path, **SMALL).fit(3, log_every=1, evaluate_every=1)
    assert names(tmp_path) >= WEIGHTS | {"summary.json", "report.html"}


def test_scores_that_cannot_be_taken_cost_only_themselves(pair, tmp_path, monkeypatch):
    def fails(*_, **__):
        raise MemoryError

    for module in ("engine.evaluating", "runs.summarizing"):
        monkeypatch.setattr(f"dfad_fast.{module}.generated_scores", fails)
    trainer = DFADTrainer(*pair, SHAPE, "dfad", out=tmp_path, **SMALL)
    with pytest.warns(DFADFastWarning) as caught:
        summary = trainer.fit(2, log_every=1, evaluate_every=1)
    told = [str(w.message) for w in caught]
    assert "not measured: scores on held-out generated images (MemoryError); training continues" in told
    assert "missing in the summary: scores on held-out generated images (MemoryError)" in told
    assert summary["iterations"] == 2
    assert summary["agreement_generated"] is None
    assert names(tmp_path) >= (WEIGHTS | PICTURES | {"summary.json"}) - {"student_best.safetensors"}


def test_a_loader_that_fails_during_the_run_leaves_the_last_good_state(pair, tmp_path):
    import torch

    class Tired:
        turns = 0

        def __iter__(self):
            self.turns += 1
            if self.turns > 3:
                raise OSError("the share is gone")
            return iter([(torch.zeros(4, *SHAPE), torch.arange(4))])

    trainer = DFADTrainer(*pair, SHAPE, "dfad", out=tmp_path, **SMALL)
    with pytest.raises(
        RunError, match=r"iteration 3 failed \(OSError: the share is gone\); .*iteration 3, saved"
    ):
        trainer.fit(5, Tired(), log_every=1, evaluate_every=1)
    assert names(tmp_path) >= WEIGHTS
    assert trainer.best.iteration == 2


def test_equal_reasons_are_said_once():
    attempts = Attempts()
    assert attempts.attempt("fine", lambda: 3) == 3
    for name, error in (("a", RunError("full")), ("b", ValueError("odd\nvalue")), ("c", RunError("full"))):

        def fail(error=error):
            raise error

        assert attempts.attempt(name, fail) is None
    assert str(attempts) == "a, c (full); b (ValueError: odd value)"
