"""The examples run, and do what they say."""

import importlib.util
import os
import re
import sys
from pathlib import Path

import pytest
import torch

from dfad_fast.models import load_weights
from dfad_fast.models.reading.attention import find_attention

EXAMPLES = Path(__file__).parent.parent / "examples"


def load(name):
    spec = importlib.util.spec_from_file_location(f"examples_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_example_is_run_here():
    found = {path.stem for path in EXAMPLES.iterdir() if path.name != "__pycache__"}
    # Black-box runs ask the server, in tests/cli/test_black_box.py.
    assert found == {
        "own_loop",
        "step_by_step",
        "early_stop",
        "digits",
        "teacher_server",
        "vision_transformer",
    }


def test_own_loop():
    pytest.importorskip("sklearn")
    assert load("own_loop").main() > 0.8


def test_step_by_step(capsys):
    load("step_by_step").main(iterations=5)
    printed = capsys.readouterr().out
    assert "iteration 5: student/l1 " in printed
    assert f"{5 * 6 * 32} images were generated, such as [16, 1, 8, 8]" in printed


def test_early_stop(capsys):
    assert load("early_stop").main(iterations=400, patience=1) < 400
    assert "agreement" in capsys.readouterr().out


def test_vision_transformer(tmp_path, capsys):
    pytest.importorskip("sklearn")
    weights = tmp_path / "vit.safetensors"
    example = load("vision_transformer")
    example.main(str(weights), epochs=1)
    assert "% of the test images" in capsys.readouterr().out
    images = torch.rand(2, 1, 8, 8)
    assert len(find_attention(example.teacher(), images)) == 3
    load_weights(example.teacher(), str(weights), "teacher")


def notebook():
    nbformat = pytest.importorskip("nbformat")
    return nbformat.read(EXAMPLES / "digits.ipynb", as_version=4)


def test_the_notebook_holds_no_outputs():
    for cell in notebook().cells:
        if cell.cell_type == "code":
            assert (cell.outputs, cell.execution_count) == ([], None)


@pytest.mark.slow
def test_the_notebook_runs(tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    pytest.importorskip("sklearn")
    # The kernel is a process of its own.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(EXAMPLES.parent), *sys.path]))
    short = notebook()
    assert "ITERATIONS = 350" in short.cells[1].source
    short.cells[1].source = "EPOCHS = 8\nITERATIONS = 12"
    nbclient.NotebookClient(short, timeout=200, resources={"metadata": {"path": tmp_path}}).execute()
    shown = [output for cell in short.cells for output in cell.get("outputs", ())]
    pictures = [output.data for output in shown if output.output_type == "display_data" or "data" in output]
    assert sum("image/png" in data for data in pictures) == 2
    accuracy = float(re.search(r"([\d.]+)% of the test images", shown[-1].text)[1])
    assert accuracy > 50
    assert (tmp_path / "runs/notebook/student.safetensors").is_file()
