"""The command line as torchrun starts it, twice on this machine."""

import json
import os
import subprocess
import sys

import pytest
import yaml

pytestmark = pytest.mark.slow


def torchrun(*arguments, cwd):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    return subprocess.run(
        [*command, "-m", "dfad_fast", *arguments],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )


def test_a_run_of_two_processes(own, tmp_path):
    """One prints, one folder holds it, and the batch grows with the processes."""
    done = torchrun("distill", *own, "--batch-per-process", "6", "--sync-batch-norm", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Everything is in run") == 1
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert summary["processes"] == 2
    assert summary["generated_images"] == 2 * 6 * 12
    config = yaml.safe_load((tmp_path / "run/config.yaml").read_text())
    assert config["batch_size"] == 12
    assert config["repeat"].startswith("torchrun --nproc-per-node=2 -m dfad_fast distill")
    # A single process goes on with it, with as large a batch.
    path = tmp_path / "run/config.yaml"
    path.write_text(
        path.read_text()
        .replace("iterations: 2", "iterations: 3")
        .replace("batch_per_process: 6", "batch_per_process: 12")
    )
    resumed = subprocess.run(
        [sys.executable, "-m", "dfad_fast", "resume", "run"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert resumed.returncode == 0, resumed.stderr
    assert "the run has had 1 and 2 processes" in resumed.stdout


def test_what_is_wrong_is_told_by_each_process_in_one_line(own, tmp_path):
    done = torchrun("distill", *own, "--student", "own.py:five_classes", cwd=tmp_path)
    assert done.returncode != 0
    told = [line for line in done.stderr.splitlines() if line.startswith("dfad-fast")]
    assert {line.split(":")[0] for line in told} == {"dfad-fast (process 0)", "dfad-fast (process 1)"}
    assert all("5 classes" in line for line in told)
    assert not (tmp_path / "run").exists()
