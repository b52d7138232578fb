"""Teachers as people have them: entries of checkpoints, programs, folders of transformers."""

import hashlib
import json
import re
import sys
from types import SimpleNamespace

import pytest
import torch
import yaml
from torch import nn
from torch.export import Dim

from dfad_fast.models import load_factory_network, load_weights


def teacher_of(tmp_path):
    network = load_factory_network(f"{tmp_path}/own.py:teacher").eval()
    load_weights(network, tmp_path / "teacher.pt")
    return network


def without_weights(own):
    return [argument for argument in own if argument not in ("--teacher-weights", "teacher.pt")]


def test_an_entry_of_a_checkpoint_is_named_repeated_and_inspected(dfad_fast, own, tmp_path):
    state = teacher_of(tmp_path).state_dict()
    torch.save({"state": {"raw": {k: v + 1 for k, v in state.items()}, "ema": state}}, tmp_path / "many.pt")
    named = [("many.pt" if a == "teacher.pt" else a) for a in own]
    done = dfad_fast("distill", *named)
    assert done.code == 2
    assert "2 different states that fit the teacher, under 'state.raw' and 'state.ema'" in done.err
    named = [("many.pt::state.ema" if a == "teacher.pt" else a) for a in own]
    assert dfad_fast("distill", *named).code == 0
    config = yaml.safe_load((tmp_path / "run/config.yaml").read_text())
    digest = hashlib.sha256((tmp_path / "many.pt").read_bytes()).hexdigest()
    assert config["teacher_weights_sha256"] == digest
    done = dfad_fast("distill", "--config", "run", "--out", "repeated")
    assert done.code == 0, done.err
    done = dfad_fast("inspect", "run", "--samples", "32")
    assert done.code == 0, done.err
    (tmp_path / "many.pt").write_bytes((tmp_path / "teacher.pt").read_bytes())
    done = dfad_fast("inspect", "run")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "no tensors under 'state.ema'" in done.err


@pytest.mark.parametrize("method", [("--method", "dfad"), ("--source", "0.5*procedural + 0.5*fresh")])
def test_a_program_teaches_and_is_announced_recorded_and_inspected(dfad_fast, own, tmp_path, method):
    network = teacher_of(tmp_path)
    program = torch.export.export(network, (torch.ones(2, 1, 8, 8),), dynamic_shapes=({0: Dim("b")},))
    torch.export.save(program, tmp_path / "own.pt2")
    options = ["own.pt2" if a == "own.py:teacher" else a for a in without_weights(own)]
    done = dfad_fast("distill", *options, *method)
    assert done.code == 0, done.err
    assert "running the code in own.pt2" in done.out
    assert json.loads((tmp_path / "run/summary.json").read_text())["method"] == "dfad"
    config = yaml.safe_load((tmp_path / "run/config.yaml").read_text())
    assert config["teacher_weights_sha256"] == hashlib.sha256((tmp_path / "own.pt2").read_bytes()).hexdigest()
    assert json.loads((tmp_path / "run/summary.json").read_text())["iterations"] > 0
    done = dfad_fast("inspect", "run", "--samples", "32")
    assert done.code == 0, done.err


@pytest.mark.parametrize(
    ("teacher", "more", "message"),
    [
        ("gone.pt2", (), "no file gone.pt2: expected a program"),
        ("teacher.pt", (), "teacher.pt is not a program .* pass it as --teacher-weights"),
        (
            "own.pt",
            ("--teacher-weights", "teacher.pt"),
            "own.pt holds its weights: leave out --teacher-weights",
        ),
        (
            "own.py:teacher",
            ("--student", "own.pt"),
            "own.pt is a program, which cannot be trained: name the student",
        ),
    ],
)
def test_programs_that_do_not_teach_are_refused_in_one_line(dfad_fast, own, teacher, more, message):
    options = [teacher if a == "own.py:teacher" else a for a in without_weights(own)]
    if "--student" in more:
        options = [a for a in options if a not in ("--student", "own.py:student")]
    done = dfad_fast("distill", *options, *more)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert re.search(message, done.err), done.err


class Folder(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, pixel_values):
        return SimpleNamespace(logits=self.network(pixel_values))


def test_a_folder_in_bfloat16_teaches_in_float32_with_its_own_weights(dfad_fast, own, tmp_path, monkeypatch):
    def load(_folder, **_):
        return Folder(teacher_of(tmp_path)).to(torch.bfloat16)

    stub = SimpleNamespace(AutoModelForImageClassification=SimpleNamespace(from_pretrained=load))
    monkeypatch.setitem(sys.modules, "transformers", stub)
    folder = tmp_path / "hf"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"")
    options = ["hf:hf" if a == "own.py:teacher" else a for a in without_weights(own)]
    done = dfad_fast("distill", *options)
    assert done.code == 0, done.err
    assert "teacher: weights from the folder hf" in done.out
    assert "as it was built" not in done.out


def test_it_is_said_where_the_weights_of_other_teachers_come_from(dfad_fast, own):
    done = dfad_fast("distill", *without_weights(own))
    assert "no --teacher-weights given, so its weights are those from its factory" in done.out
