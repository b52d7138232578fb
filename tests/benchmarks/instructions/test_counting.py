"""Counting instructions: what becomes of valgrind's output. (That counts repeat takes minutes to see.)"""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from benchmarks import run
from benchmarks.instructions import counting, worker
from benchmarks.measuring.results import load

ROWS = [
    {"case": "l1 float32", "tier": "avx2", "elements": 100, "direction": "forward"},
    {"case": "l1 float32", "tier": "avx2", "elements": 100, "direction": "backward"},
]


@pytest.fixture
def pretended(monkeypatch):
    """Valgrind, said to be there, and counts in the order in which it would dump them."""
    monkeypatch.setattr(shutil, "which", lambda program: f"/usr/bin/{program}")

    def answer(counts, table):
        Path(table).write_text(json.dumps(ROWS))
        for i, total in enumerate((530, 510, 520, 900, 905, 901)):
            counts.with_name(f"{counts.name}.{i + 1}").write_text(f"events: Ir\ntotals: {total}\n")

    monkeypatch.setattr(counting, "_under_callgrind", lambda counts, arguments: answer(counts, arguments[-1]))


def test_the_least_of_the_repeats_counts(pretended, tmp_path):
    done = CliRunner().invoke(run.main, ["instructions", "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    found = load(tmp_path / "instructions.json")
    assert found["complete"]
    assert [(row["mode"], row["instructions"]) for row in found["rows"]] == [
        ("forward, avx2", 510),
        ("backward, avx2", 900),
    ]
    assert found["rows"][0]["instructions_per_element"] == 5.1
    assert "| l1 float32 | backward, avx2 | 900 | 9.00 |" in (tmp_path / "instructions.md").read_text()


def test_without_valgrind_it_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "which", lambda program: None)
    done = CliRunner().invoke(run.main, ["instructions", "--out", str(tmp_path)])
    assert done.exit_code == 1
    assert (
        done.output
        == "Error: counting instructions needs valgrind and callgrind_control (Debian: package valgrind)\n"
    )


def test_what_fails_under_valgrind_is_told_in_a_line(monkeypatch, tmp_path):
    failed = subprocess.CompletedProcess(
        [], 1, "", "==7== Callgrind\nTraceback\nImportError: no kernels\n==7== bye\n"
    )
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(counting.Unavailable, match=r"^under valgrind: ImportError: no kernels$"):
        counting._under_callgrind(tmp_path / "counts", [])


def test_every_kernel_is_called():
    kernels = worker.kernels()
    names = [name for name, *_ in kernels]
    assert set(worker.OPS) | {"winograd_conv2d", "generator_block"} == set(names)
    for name, dtype, function, problem in kernels:
        out = function(*problem.arguments)
        first = out if isinstance(out, torch.Tensor) else out[0]
        if name == "batch_norm_statistics_loss":  # of statistics, which are float32
            assert first.dtype == torch.float32
        else:
            assert first.dtype in (torch.uint8, getattr(torch, dtype))
        if problem.leaves:
            assert len(worker.backward(out, problem)) == len(problem.leaves)


def test_where_nothing_is_built_it_says_so(pretended, monkeypatch):
    monkeypatch.setattr(counting, "find_spec", lambda name: None)
    with pytest.raises(counting.Unavailable, match=r"^the C\+\+ kernels are not built"):
        counting.run()


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
def test_valgrind_is_called_as_it_wants_to_be(tmp_path):
    counting._under_callgrind(tmp_path / "counts", ["-c", "pass"])
    assert counting._total(tmp_path / "counts") == 0  # nothing was asked for
    with pytest.raises(counting.Unavailable, match=r"^under valgrind: no kernels$"):
        counting._under_callgrind(tmp_path / "counts", ["-c", "raise SystemExit('no kernels')"])
