"""The examples run, and do what they say."""

import importlib.util
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


def load(name):
    spec = importlib.util.spec_from_file_location(f"examples_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_example_is_run_here():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {"own_loop", "step_by_step", "early_stop"}


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
