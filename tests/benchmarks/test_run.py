"""The benchmark of the ops on tiny inputs: that it measures rightly, not how fast anything is."""

import copy
import csv
import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from benchmarks import ops, report, run
from benchmarks.cases import (
    BACKWARD,
    BOTH,
    CASES,
    FORWARD,
    GRAPH,
    INFERENCE,
    MODES,
    OPS,
    TOLERANCE,
    Case,
    tolerance,
)
from benchmarks.contenders import OURS
from benchmarks.contestant import (
    Ceiling,
    Contestant,
    health,
    make_problem,
    peak_bytes,
    relative_error,
    results,
)
from benchmarks.measure import Arena, Lost, Process, Settings, memory_needed
from benchmarks.results import SCHEMA, load

SCRIPT = Path(run.__file__)
STAGES = ((4, 3, 5, 5), (4, 6, 3, 3))
TINY = {
    "boundary_hinge_loss": STAGES,
    "boundary_hinge_loss packed": STAGES,
    "pack_signs": ((4, 16),),
    "virtual_batch": ((6, 3, 5, 5), (6, 10)),
    "mixup": ((6, 3, 5, 5),),
}
FAST = Settings(threads=1, rounds=3, warm_seconds=0.0, timed_seconds=0.001, answer_seconds=120.0)


def tiny(op, **flags):
    return Case(op, TINY.get(op, ((7, 10),)), "tiny", **flags)


def silent(done, of, name):
    pass


@pytest.fixture(scope="module")
def measured(forking):
    """A run over three ops, one of them with the default allocator too."""
    cases = [tiny("l1_discrepancy", unpinned=True), tiny("boundary_hinge_loss"), tiny("pack_signs")]
    with forking():
        return ops.run(cases, FAST, silent, with_compile=False)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("op", OPS)
def test_contenders_agree(op, dtype):
    case = tiny(op, dtype=dtype, both_sides=op not in TINY)
    problem = make_problem(case, "cpu")
    formulas = OPS[op].formulas
    want = results(next(iter(formulas.values())), problem.to(torch.float64))
    for name, contender in (*formulas.items(), (OURS, OPS[op].ours)):
        got = results(contender, problem)
        assert len(got) == len(want)
        for g, w in zip(got, want, strict=True):
            assert relative_error(g, w) <= tolerance(case, name)


@pytest.mark.parametrize("op", [op for op in OPS if OPS[op].backward_bytes])
def test_a_wrong_contender_is_seen(op):
    problem = make_problem(tiny(op), "cpu")
    want = results(OPS[op].ours, problem)
    for i, good in enumerate(want):
        # One element of the smallest results, a whole sample of the others.
        spoilt = good.clone()
        spoilt.view(-1)[: max(1, spoilt.numel() // 7)] *= 1.05
        assert relative_error(spoilt, good) > TOLERANCE[torch.float32], i
    assert relative_error(want[0][..., None], want[0]) == math.inf
    assert relative_error(torch.full_like(want[0], math.nan), want[0]) == math.inf


def test_registry_is_sound():
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)
    assert {case.op for case in CASES} == set(OPS)
    assert {case.op for case in CASES if case.quick} >= {
        "boundary_hinge_loss",
        "l1_discrepancy",
        "virtual_batch",
    }
    assert all(case.dtype in TOLERANCE for case in CASES)
    for op in OPS.values():
        assert op.contenders[-1] == OURS
        assert {"eager, best", "compile, best"} < set(op.contenders)


def test_least_bytes():
    shape = (4, 8)  # 32 elements: 128 bytes in float32, 4 bytes of bits
    moved = {}
    for name in (
        "boundary_hinge_loss",
        "l1_discrepancy",
        "mixup",
        "pack_signs",
        "boundary_hinge_loss packed",
    ):
        problem = make_problem(Case(name, (shape,), "tiny"), "cpu")
        moved[name] = [OPS[name].moved(problem, mode) for mode in OPS[name].modes]
        assert OPS[name].moved(problem, GRAPH) == moved[name][-1]
    assert moved["boundary_hinge_loss"] == [256, 260, 260, 520]
    assert moved["boundary_hinge_loss packed"] == [132, 132, 260, 392]
    assert moved["l1_discrepancy"] == [256, 256, 384, 640]
    assert moved["mixup"] == [256, 256, 256, 512]
    assert moved["pack_signs"] == [132]


def test_peak_memory_of_known_tensors():
    def step():
        first = torch.empty(2**18)  # 1 MiB
        second = torch.empty(2**19)
        del first
        third = torch.empty(2**18)
        return second, third

    assert peak_bytes(step, "cpu") == 3 * 2**20


def test_peak_memory_of_the_fused_op_is_below_the_formulas():
    case = Case("boundary_hinge_loss", ((64, 64, 8, 8),), "small")
    elements = 64 * 64 * 8 * 8
    ours, published = (Contestant(case, name, "cpu").peak() for name in (OURS, "eager, published"))
    assert 4 * elements <= ours <= 4.5 * elements  # the gradient and one bit per element
    assert published > 4 * ours


@pytest.mark.parametrize("mode", MODES)
def test_samples_are_per_call(mode):
    contestant = Contestant(tiny("l1_discrepancy"), OURS, "cpu")
    made = []
    calls = contestant.calls
    contestant.calls = lambda mode, count: made.append(count) or calls(mode, count)
    samples = contestant.measure(mode, 0.01, 0.02)
    assert samples.calls > 1
    assert set(made[-len(samples.seconds) :]) == {samples.calls}
    assert all(0 < seconds < 1e-2 for seconds in samples.seconds)


def test_a_longer_call_takes_longer():
    contestant = Contestant(tiny("l1_discrepancy"), OURS, "cpu")
    contestant.call = lambda: time.sleep(0.004)
    samples = contestant.measure(FORWARD, 0.0, 0.01)
    assert samples.calls == 1
    assert 0.004 <= min(samples.seconds) < 0.1


def test_a_graph_is_captured_once_and_replayed(monkeypatch):
    contestant = Contestant(tiny("l1_discrepancy"), OURS, "cpu")
    captured = []

    class Graph:
        replays = 0

        def replay(self):
            self.replays += 1

    monkeypatch.setattr("benchmarks.contestant.capture", lambda step: captured.append(step) or Graph())
    calls = contestant.calls(GRAPH, 2) + contestant.calls(GRAPH, 1)
    assert captured == [contestant.step]
    for call in calls:
        call()
    assert contestant._graph.replays == 3


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_is_measured():
    found = ops.run([tiny("l1_discrepancy")], replace(FAST, device="cuda"), silent, with_compile=False)
    assert not [c for c in found["contestants"] if c["problem"]]
    assert {row["mode"] for row in found["rows"]} == {*MODES, GRAPH}


def test_copies_move_the_least_bytes():
    case = Case("l1_discrepancy", ((64, 64),), "small")
    copy_, read = Ceiling(case, "copy", "cpu"), Ceiling(case, "read", "cpu")
    assert copy_.prepare()["moved"][BACKWARD] == 3 * 64 * 64 * 4
    for ceiling in (copy_, read):
        ceiling.measure(BACKWARD, 0.0, 0.0)
        assert sum(x.nbytes for x in ceiling._buffers) == 3 * 64 * 64 * 4


def test_health_of_compiled_code():
    vector = (
        'extern "C" void kernel(float* out_ptr0) { for(;;) at::vec::Vectorized<float>(0).store(out_ptr0); }'
    )
    scalar = 'extern "C" void kernel(float* out_ptr0) { for(;;) out_ptr0[0] = 0; }'
    masks = 'extern "C" void kernel(bool* out_ptr0) { for(;;) at::vec::VecMask<float,1>(x).store(out_ptr0); }'
    assert health([vector + scalar, masks]) == {
        "kernels": 3,
        "vectorised_kernels": 2,
        "mask_kernels": 1,
    }
    state = {"problem": None, **health([vector, scalar])}
    assert report._state(state) == "unhealthy: 1 of 2 kernels are scalar code"
    assert (
        report._state({"problem": None, **health([masks])}) == "unhealthy: masks are handled by scalar code"
    )
    assert report._state({"problem": None, **health([vector])}) == "vectorised"
    assert report._state({"problem": "wrong"}) == "out: wrong"


@pytest.mark.slow
def test_torch_compile_is_measured_and_told_apart():
    with Arena(replace(FAST, processes=1)) as arena:
        race = arena.race(tiny("l1_discrepancy"), ("compile, best", OURS), (INFERENCE, BOTH))
    facts = race["contestants"][0]
    assert facts["problem"] is None
    assert facts["compile_seconds"] > 0
    assert facts["kernels"] == facts["vectorised_kernels"] > 0
    assert [row["contender"] for row in race["rows"]] == 2 * ["compile, best", OURS, "copy", "read"]


@pytest.mark.slow
def test_without_a_compiler_torch_compile_is_out_and_the_rest_is_measured(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with Arena(replace(FAST, processes=1)) as arena:
        race = arena.race(tiny("l1_discrepancy"), ("compile, best", OURS), (INFERENCE,))
    assert "no-such-compiler" in race["contestants"][0]["problem"]
    assert {row["contender"] for row in race["rows"]} == {OURS, "copy", "read"}


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


def test_a_process_that_dies_is_out_and_named(tmp_path):
    process = Process(FAST, "pinned", tmp_path)
    try:
        process.ask("enter", tiny("l1_discrepancy"), OURS)
        process.answer()
        os.kill(process._process.pid, signal.SIGKILL)
        process._process.join()
        with pytest.raises(Lost, match="SIGKILL"):
            process.ask("check")
    finally:
        process.close()


def test_a_silent_process_is_ended(tmp_path):
    process = Process(replace(FAST, answer_seconds=0.01), "pinned", tmp_path)
    process.ask("enter", tiny("l1_discrepancy"), OURS)
    with pytest.raises(Lost, match="no answer within"):
        process.answer()
    assert not process._process.is_alive()


def test_a_contender_that_fails_is_out_and_the_rest_is_measured(forking):
    with forking(), Arena(FAST) as arena:
        race = arena.race(tiny("l1_discrepancy"), ("eager, no such formula", OURS), (INFERENCE,))
    assert "no such formula" in race["contestants"][0]["problem"]
    assert {row["contender"] for row in race["rows"]} == {OURS, "copy", "read"}


def test_pinned_memory_is_not_faulted_in_again(tmp_path):
    # 64 MiB gradients: beyond the size up to which the C library keeps memory by itself.
    case = Case("l1_discrepancy", ((2**24,),), "large")
    faults = {}
    for allocator in ("pinned", "default"):
        process = Process(FAST, allocator, tmp_path)
        try:
            process.ask("enter", case, OURS)
            for _ in range(3):
                process.ask("measure", BOTH, 0.0, 0.0)
            *_, last = (process.answer() for _ in range(4))
        finally:
            process.close()
        faults[allocator] = last.faults
    assert faults["pinned"] < 100 < 16000 < faults["default"]


def test_too_large_a_case_is_skipped_and_said(monkeypatch):
    monkeypatch.setattr(ops, "memory_available", lambda: 1)
    case = tiny("mixup")
    assert memory_needed(case) > 1
    found = ops.run([case], FAST, silent)
    assert found["skipped"][0]["case"] == case.name
    assert not found["rows"]


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


def test_all_measures_everything_and_quick_leaves_the_slow_out(monkeypatch, tmp_path):
    asked = []

    def note(name):
        def measure(options, **more):
            asked.append((name, options.quick, options.out, more))
            return [name]

        return measure

    for name in ("ops", "step", "train"):
        monkeypatch.setattr(run, f"measure_{name}", note(name))
    done = CliRunner().invoke(run.main, ["all", "--quick", "--out", str(tmp_path)])
    assert done.exit_code == 1
    assert done.output == "Error: failed, see above: ops, step, train\n"
    assert asked == [
        ("ops", True, tmp_path / "ops", {"with_compile": False, "unpinned": False, "halves": False}),
        ("step", True, tmp_path / "step", {}),
        ("train", True, tmp_path / "train", {"images": None}),
    ]
    asked.clear()
    CliRunner().invoke(run.main, ["all", "--out", str(tmp_path)])
    assert asked[0] == (
        "ops",
        False,
        tmp_path / "ops",
        {"with_compile": True, "unpinned": True, "halves": False},
    )
    assert asked[2] == ("train", False, tmp_path / "train", {"images": run.IMAGES_OF_ALL})
