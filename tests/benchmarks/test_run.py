"""The script: its commands, and that nothing but them is found by their names."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from benchmarks import run
from benchmarks.measuring.results import load

SCRIPT = Path(run.__file__)


def test_every_package_with_a_command_is_one():
    found = {file.parent.name for file in SCRIPT.parent.glob("*/command.py")}
    assert list(run.COMMANDS) == sorted(found)


def test_help_of_every_command_comes_without_torch():
    code = """
import sys
from click.testing import CliRunner
from benchmarks import run
told = CliRunner().invoke(run.main, ["--help"])
assert told.exit_code == 0, told.output
assert all(f"  {name} " in told.output for name in run.COMMANDS), told.output
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], cwd=SCRIPT.parent.parent, check=True, timeout=60)


def test_no_package_of_the_script_hides_another(tmp_path):
    """Python puts a script's folder first on the path, where ``import compare`` would find the command."""
    (tmp_path / "probe.py").write_text(
        f"""
import importlib.util, runpy, sys
sys.path[0] = {str(SCRIPT.parent)!r}
runpy.run_path({str(SCRIPT)!r})
print([name for name in ("measuring", *{run.COMMANDS!r}) if importlib.util.find_spec(name)])
import benchmarks.run
"""
    )
    done = subprocess.run(
        [sys.executable, tmp_path / "probe.py"],
        cwd=tmp_path,
        env={},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "[]\n", done.stderr
    assert done.returncode == 0, done.stderr


def test_requests_that_cannot_be_met(tmp_path):
    if not torch.cuda.is_available():
        for command in ("ops", "step", "train", "all"):
            refused = CliRunner().invoke(run.main, [command, "--device", "cuda", "--out", str(tmp_path)])
            assert refused.exit_code == 1
            assert refused.output == "Error: --device cuda: torch sees no GPU here\n"
    unknown = CliRunner().invoke(run.main, ["ops", "--match", "nothing is named so"])
    assert unknown.exit_code == 2
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("interrupt", [signal.SIGINT, signal.SIGTERM])
def test_the_script_runs_and_an_interrupt_keeps_what_was_done(interrupt, tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    # From elsewhere, so that nothing is found by chance.
    process = subprocess.Popen(
        [
            sys.executable,
            str(SCRIPT),
            "ops",
            "--no-compile",
            "--threads",
            "1",
            "--match",
            "[1, 10]",
            "--out",
            "out",
        ],
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(scratch)},
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        deadline = time.monotonic() + 60
        while not list(scratch.glob("*/*.log")) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        # As a terminal does: to all processes at once.
        os.killpg(process.pid, interrupt)
        output, _ = process.communicate(timeout=120)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 130, output
    assert "interrupted" in output
    assert not load(tmp_path / "out/ops.json")["complete"]
    assert not list(scratch.iterdir())
