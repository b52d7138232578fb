"""benchmarks/gpu.sh, as far as it goes without a GPU."""

import shlex
import subprocess
import sys

import pytest

from benchmarks import run
from benchmarks.measuring.machine import ROOT
from dfad_fast.cli.group import app


def gpu(*arguments):
    return subprocess.run(
        [ROOT / "benchmarks/gpu.sh", *arguments],
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": ""},
        timeout=120,
        check=False,
    )


def test_a_dry_run_names_commands_that_exist():
    done = gpu("--dry-run", "--out", "somewhere")
    assert (done.returncode, done.stderr) == (0, "")
    steps = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    # The most important first.
    assert list(steps)[:4] == ["info", "build", "test-cuda", "ops-cuda"]
    for text in steps.values():
        words = shlex.split(text.replace("-m not slow", "-m 'not slow'"))
        words = words[words.index(sys.executable) + 1 :]
        if words[0] == "benchmarks/run.py":
            context = run.main.make_context("run.py", words[1:])
            name, command, rest = run.main.resolve_command(context, words[1:])
            command.make_context(name, rest, parent=context)
        elif words[:2] == ["-m", "dfad_fast"]:
            app.get_command(None, words[2]).make_context(words[2], words[3:])
        elif words[:2] == ["-m", "pytest"]:
            assert all((ROOT / word).exists() for word in words if word.startswith("tests/"))
        else:
            assert (ROOT / words[0]).is_file() or words[:2] == ["-m", "dfad_fast.info"]


def test_without_a_gpu_it_says_so():
    done = gpu()
    assert (done.returncode, done.stdout) == (2, "")
    assert "torch sees no GPU here" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--minutes", "soon"], "--minutes takes a whole number of at least 1, got soon"),
        (["--minutes", "0"], "--minutes takes a whole number of at least 1, got 0"),
        (["--out"], "--out needs a value"),
        (["--fast"], "unknown option --fast"),
    ],
)
def test_a_mistake_is_one_line(arguments, message):
    done = gpu(*arguments)
    assert done.returncode == 2
    assert message in done.stderr.splitlines()[0]
