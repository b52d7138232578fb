"""The table of sectors: what becomes of the workers' counts. (`tests/ptx` counts for itself.)"""

import json
import subprocess

import pytest
from click.testing import CliRunner

from benchmarks import run
from benchmarks.sectors import counting
from benchmarks.sectors.cases import CASES

ROW = {"op": "mixup", "compiler": "cuda", "dtype": "float32", "layout": "aligned", "direction": "forward"}
COUNTS = {"load requests": 4, "load sectors": 10, "load bytes": 160, "single": 2}


@pytest.fixture
def pretended(monkeypatch):
    """Workers that count one request each."""

    def answer(command, **_):
        compiler, table = command[-2:]
        with open(table, "w") as file:
            json.dump([{**ROW, **COUNTS, "compiler": compiler}], file)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", answer)


def test_a_table_of_both_compilers(pretended, tmp_path):
    file = tmp_path / "sectors.json"
    done = CliRunner().invoke(run.main, ["sectors", "--json", str(file)])
    assert done.exit_code == 0, done.output
    assert [row["compiler"] for row in json.loads(file.read_text())["rows"]] == ["cuda", "triton"]
    table = file.with_suffix(".md").read_text()
    assert "| mixup | cuda | float32 | aligned | forward | 50.0 % |  | 4 | 2 |" in table


def test_shares_beside_those_of_before(pretended, tmp_path):
    before, file = tmp_path / "before.json", tmp_path / "after.json"
    before.write_text(json.dumps({"rows": [{**ROW, **COUNTS, "load sectors": 40}]}))
    arguments = ["sectors", "--compiler", "cuda", "--before", str(before), "--json", str(file)]
    done = CliRunner().invoke(run.main, arguments)
    assert done.exit_code == 0, done.output
    assert "| 12.5 % → 50.0 % |" in file.with_suffix(".md").read_text()


def test_a_kernel_that_fails_is_told_in_a_line(monkeypatch):
    failed = subprocess.CompletedProcess([], 1, "", "Traceback\nRuntimeError: nvcc not found\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    done = CliRunner().invoke(run.main, ["sectors", "--compiler", "cuda"])
    assert done.exit_code == 1
    assert done.output == "Error: cuda: RuntimeError: nvcc not found\n"


def test_requests_without_loads_have_no_share():
    assert counting.used({"store sectors": 2, "store bytes": 64}, "load") is None
    assert counting.used({"store sectors": 2, "store bytes": 64}, "store") == 1


def test_a_case_makes_tensors_as_its_layout_says():
    for case in CASES:
        first, *others = case.tensors()
        assert first.requires_grad
        if case.layout == "off by 4 bytes":
            assert first.data_ptr() % 16 == 4
        if case.layout == "mixed layout":
            assert first.is_contiguous()
            assert not any(x.is_contiguous() for x in others)
