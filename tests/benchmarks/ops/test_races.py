"""Races of the ops on tiny inputs, and their reports."""

import copy
import csv
import json
from dataclasses import replace

import pytest
import torch

from benchmarks.measuring.results import OURS, SCHEMA, load
from benchmarks.ops import races, report
from benchmarks.ops.arena import Arena, memory_needed
from benchmarks.ops.registry import BOTH, GRAPH, INFERENCE, MODES

from .tiny import FAST, silent, tiny


@pytest.fixture(scope="module")
def measured(forking):
    """A run over three ops, one of them with the default allocator too."""
    cases = [tiny("l1_discrepancy", unpinned=True), tiny("boundary_hinge_loss"), tiny("pack_signs")]
    with forking():
        return races.run(cases, FAST, silent, with_compile=False)


def test_a_run_is_complete(measured):
    assert measured["complete"]
    assert not [c for c in measured["contestants"] if c["problem"]]
    pinned = [row for row in measured["rows"] if row["allocator"] == "pinned"]
    for case, eager in (("l1_discrepancy", 1), ("boundary_hinge_loss", 2)):
        rows = [row for row in pinned if row["op"] == case]
        assert len(rows) == 4 * (eager + 3)  # modes times eager, ours, copy, read
    assert {row["mode"] for row in pinned if row["op"] == "pack_signs"} == {INFERENCE}
    default = [row for row in measured["rows"] if row["allocator"] == "default"]
    assert {(row["op"], row["mode"]) for row in default} == {("l1_discrepancy", BOTH)}


def test_rows_hold_what_the_schema_promises(measured):
    again = json.loads(json.dumps(measured, allow_nan=False))
    assert (again["kind"], again["schema"]) == ("ops", SCHEMA)
    assert again["settings"]["threads"] == 1
    assert {"cpu", "cores", "load_average", "versions", "git_revision", "backend", "libc"} <= set(
        again["machine"]
    )
    for row in again["rows"]:
        assert set(report.COLUMNS) <= set(row)
        assert 0 < row["first_quartile_seconds"] <= row["median_seconds"] <= row["third_quartile_seconds"]
        assert len(row["round_medians_seconds"]) == FAST.rounds
        processes = FAST.processes if row["contender"] == OURS else 1
        assert len(row["process_medians_seconds"]) == processes
        assert row["runs"] >= processes * FAST.rounds
        assert row["gigabytes_per_second"] == pytest.approx(
            row["minimum_bytes"] / row["median_seconds"] / 1e9
        )
    for contestant in again["contestants"]:
        assert contestant["error"] <= contestant["tolerance"]
        assert contestant["peak_bytes"] > 0


@pytest.mark.pictures
def test_report_and_files(measured, tmp_path, capsys):
    from rich.console import Console

    report.print_report(measured, Console(width=200))
    printed = capsys.readouterr().out
    assert "boundary_hinge_loss" in printed
    assert "Allocator" in printed
    files = {file.name: file for file in report.save(measured, tmp_path / "out")}
    assert set(files) == {"ops.json", "ops.csv", "ops.md", "speedup.png", "roofline.png", "memory.png"}
    assert load(files["ops.json"]) == measured
    with files["ops.csv"].open() as stream:
        assert len(list(csv.DictReader(stream))) == len(measured["rows"])
    text = files["ops.md"].read_text()
    assert "| tiny float32 | inference |" in text
    assert f"{measured['machine']['cpu']}, 1 thread, " in text
    assert f"revision {(measured['machine']['git_revision'] or 'unknown')[:10]}" in text
    for name in ("speedup.png", "roofline.png", "memory.png"):
        assert files[name].read_bytes().startswith(b"\x89PNG")


def test_a_lost_case_is_named(measured):
    slow = copy.deepcopy(measured)
    for row in slow["rows"]:
        if row["contender"] == OURS:
            row["round_medians_seconds"] = [1e3 * value for value in row["round_medians_seconds"]]
    assert any(
        cell.endswith("slower")
        for sheet in report.speed_sheets(slow)
        for line in sheet.lines
        for cell in line
    )


def test_a_contender_that_fails_is_out_and_the_rest_is_measured(forking):
    with forking(), Arena(FAST) as arena:
        race = arena.race(tiny("l1_discrepancy"), ("eager, no such formula", OURS), (INFERENCE,))
    assert "no such formula" in race["contestants"][0]["problem"]
    assert {row["contender"] for row in race["rows"]} == {OURS, "copy", "read"}


def test_too_large_a_case_is_skipped_and_said(monkeypatch):
    monkeypatch.setattr(races, "memory_available", lambda: 1)
    case = tiny("mixup")
    assert memory_needed(case) > 1
    found = races.run([case], FAST, silent)
    assert found["skipped"][0]["case"] == case.name
    assert not found["rows"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_is_measured():
    found = races.run([tiny("l1_discrepancy")], replace(FAST, device="cuda"), silent, with_compile=False)
    assert not [c for c in found["contestants"] if c["problem"]]
    assert {row["mode"] for row in found["rows"]} == {*MODES, GRAPH}


@pytest.mark.slow
@pytest.mark.long
def test_torch_compile_is_measured_and_told_apart():
    with Arena(FAST) as arena:
        race = arena.race(tiny("l1_discrepancy"), ("compile, best", OURS), (INFERENCE, BOTH))
    facts = race["contestants"][0]
    assert facts["problem"] is None
    assert facts["compile_seconds"] > 0
    assert facts["kernels"] == facts["vectorized_kernels"] > 0
    assert [row["contender"] for row in race["rows"]] == 2 * ["compile, best", OURS, "copy", "read"]


@pytest.mark.slow
def test_without_a_compiler_torch_compile_is_out_and_the_rest_is_measured(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with Arena(FAST) as arena:
        race = arena.race(tiny("l1_discrepancy"), ("compile, best", OURS), (INFERENCE,))
    assert "no-such-compiler" in race["contestants"][0]["problem"]
    assert {row["contender"] for row in race["rows"]} == {OURS, "copy", "read"}
