"""Comparison of two result files, on files that are made up: what counts as a difference, and what does not."""

import copy
import json
import math
import random

import pytest
from click.testing import CliRunner

from benchmarks import run
from benchmarks.compare.comparison import Unlike, compare
from benchmarks.measuring.results import SCHEMA

MACHINE = {"cpu": "a", "cores": 2, "device": "cpu", "versions": {"torch": "1"}}


def results(kind, rows):
    return {
        "kind": kind, "schema": SCHEMA, "complete": True, "machine": MACHINE, "settings": {"threads": 2}, "rows": rows,
    }  # fmt: skip


def op_row(case, contender, seconds, noise=0.01, rounds=6, seed=0):
    drawn = random.Random(f"{case} {contender} {seed}")
    times = [seconds * math.exp(drawn.gauss(0, noise)) for _ in range(rounds)]
    return {
        "op": "l1", "case": case, "mode": "forward", "allocator": "pinned", "contender": contender,
        "median_seconds": sorted(times)[rounds // 2], "round_medians_seconds": times,
    }  # fmt: skip


def ops_run(ours=1.0, others=1.0, noise=0.01, seed=0, cases=12):
    """A run whose times are multiplied; ``ours`` may be per case."""
    rows = []
    for number in range(cases):
        factor = ours.get(number, 1.0) if isinstance(ours, dict) else ours
        rows.append(op_row(f"case {number}", "dfad_fast", factor * 1e-3, noise, seed=seed))
        rows += [
            op_row(f"case {number}", name, others * 3e-3, noise, seed=seed)
            for name in ("eager, best", "eager, published")
        ]
        rows.append(op_row(f"case {number}", "copy", 1e-3, noise, seed=seed))
    return results("ops", rows)


def loop_row(contender, loop, seconds, **more):
    race = {"pair": "lenet", "race": "speeds", "allocator": "pinned"}
    return {**race, "contender": contender, "loop": loop, "seconds": seconds, **more}


def step_run(ours, faithful):
    return results("step", [loop_row("faithful", "faithful", faithful), loop_row("exact", "trainer", ours)])


def test_a_file_does_not_differ_from_itself():
    found = compare(ops_run(), ops_run())
    assert found.compared == 12
    assert found.drift == 1
    assert not found.changes
    assert not found.warnings


@pytest.mark.parametrize("noise", [0.02, 0.1, 0.3])
def test_two_runs_of_the_same_do_not_differ(noise):
    for seed in range(20):
        found = compare(ops_run(noise=noise, seed=seed), ops_run(noise=noise, seed=seed + 100))
        assert not found.changes, (seed, found.changes)


def test_what_was_lost_is_a_regression_unless_the_run_was_cut_short():
    after = ops_run(seed=1)
    after["rows"] = [r for r in after["rows"] if (r["case"], r["contender"]) != ("case 3", "dfad_fast")]
    found = compare(ops_run(), after)
    assert found.regressions == [("case 3", "forward")]
    cut = compare(ops_run(), {**after, "complete": False})
    assert not cut.regressions
    assert cut.warnings == ("the second run was interrupted",)


def test_files_with_nothing_in_common_are_not_compared():
    before, after = ops_run(cases=2), ops_run(cases=4)
    after["rows"] = [row for row in after["rows"] if row["case"] in ("case 2", "case 3")]
    with pytest.raises(Unlike, match="no measurement in common"):
        compare(before, after)


def test_other_work_is_named():
    before, after = ({**ops_run(), "job": {"iterations": n}} for n in (80, 90))
    assert compare(before, after).warnings == ("the runs differ, so the compared work is not the same",)


def test_a_doubled_time_is_found_and_only_that():
    found = compare(ops_run(), ops_run({3: 2.0, 5: 0.5}, seed=1))
    assert [change.name[0] for change in found.regressions] == ["case 3"]
    assert {change.name[0] for change in found.changes} == {"case 3", "case 5"}
    assert found.regressions[0].ratio == pytest.approx(2, rel=0.05)


def test_everything_slower_is_found():
    found = compare(ops_run(), ops_run(2.0, seed=1))
    assert len(found.regressions) == found.compared == 12


def test_a_slower_machine_is_no_regression():
    found = compare(ops_run(), ops_run(2.0, 2.0, seed=1))
    assert not found.changes
    assert found.drift == pytest.approx(2, rel=0.05)


def test_processes_that_differ_by_luck_hide_as_much():
    """As in a process whose memory lies badly in all its rounds: eager mode shows how much that is."""
    unlucky = ops_run(seed=1)
    for row in unlucky["rows"]:
        if row["contender"] == "eager, best" and row["case"] in ("case 1", "case 2", "case 3"):
            row["round_medians_seconds"] = [1.4 * seconds for seconds in row["round_medians_seconds"]]
    slower = dict.fromkeys(range(6, 9), 1.3)
    mine = [row for row in ops_run(slower, seed=1)["rows"] if row["contender"] == "dfad_fast"]
    both = results("ops", mine + [row for row in unlucky["rows"] if row["contender"] != "dfad_fast"])
    assert len(compare(ops_run(), ops_run(slower, seed=1)).regressions) == 3
    assert not compare(ops_run(), both).changes


def test_two_processes_of_ours_that_differ_by_luck_hide_as_much():
    """A run's time is that of both; what they differ by in one run may be the difference of two runs."""

    def with_processes(apart, *, ours=1.0, seed=0):
        measured = ops_run(ours, seed=seed)
        for row in measured["rows"]:
            row["op"] = "even" if row["case"] == "case 0" else "uneven"
            if row["contender"] == "dfad_fast":
                factor = 1.0 if row["op"] == "even" else apart
                row["process_medians_seconds"] = [row["median_seconds"], factor * row["median_seconds"]]
        return measured

    slower = {0: 1.3, 1: 1.3}
    assert len(compare(with_processes(1.0), with_processes(1.0, ours=slower, seed=1)).regressions) == 2
    # Another op's luck tells nothing about this one.
    (change,) = compare(with_processes(1.3), with_processes(1.3, ours=slower, seed=1)).regressions
    assert change.name == ("case 0", "forward")


def test_a_step_is_compared_by_rounds_beside_the_published_loop():
    before = step_run([1.0, 2.0, 1.0], [4.0, 8.0, 4.0])  # a busy moment met both
    assert not compare(before, step_run([2.0, 2.02, 2.01], [8.0, 8.0, 8.0])).changes
    (change,) = compare(before, step_run([1.5, 1.52, 1.51], [4.0, 4.0, 4.0])).regressions
    assert change.name == ("exact", "lenet, speeds, pinned")
    assert change.ratio == pytest.approx(1.51)


def test_a_step_with_nothing_beside_it_says_so():
    alone = results("step", [loop_row("exact", "trainer", [1.0, 1.01, 1.02])])
    found = compare(alone, alone)
    assert found.compared == 1
    assert found.warnings == (
        "no baseline contender ran next to these, so a slower machine counts as a change: exact",
    )


def test_one_round_tells_nothing():
    found = compare(step_run([1.0], [4.0]), step_run([3.0], [4.0]))
    assert not found.changes
    assert found.warnings == ("measured only once, so noise is unknown: exact",)


def train_run(accuracies):
    row = loop_row("exact dfad", "trainer", [1.0, 1.01, 1.0], final_accuracies=accuracies)
    return results("train", [row, loop_row("faithful dfad", "faithful", [4.0, 4.0, 4.0])])


def test_lower_accuracy_is_a_regression():
    assert not compare(train_run([0.97, 0.98, 0.99]), train_run([0.96, 0.97, 0.98])).regressions
    (lower,) = compare(train_run([0.97, 0.98, 0.99]), train_run([0.90, 0.91, 0.92])).regressions
    assert (lower.name, lower.before, lower.after) == ("exact dfad", pytest.approx(0.98), pytest.approx(0.91))
    assert not compare(train_run([0.90, 0.91]), train_run([0.97, 0.98])).regressions
    assert not compare(train_run([0.97]), train_run([0.90])).regressions  # one seed tells nothing


def test_instruction_counts_are_compared_as_they_are():
    def counted(instructions):
        return results(
            "instructions",
            [{"case": "l1", "mode": "forward", "contender": "dfad_fast", "instructions": instructions}],
        )

    assert not compare(counted(100_000), counted(100_900)).changes
    (change,) = compare(counted(100_000), counted(102_000)).regressions
    assert change.ratio == pytest.approx(1.02)


def test_files_of_two_kinds_are_refused():
    with pytest.raises(Unlike, match="one file is of ops, the other of step"):
        compare(ops_run(), step_run([1.0], [1.0]))


def test_from_the_command_line(tmp_path):
    before, after = tmp_path / "before.json", tmp_path / "after.json"

    def told():
        return CliRunner().invoke(run.main, ["compare", str(before), str(after)])

    before.write_text(json.dumps(ops_run()))
    after.write_text(json.dumps(ops_run(seed=1)))
    assert told().exit_code == 0
    assert "no difference beyond noise" in told().output
    after.write_text(json.dumps(ops_run(2.0, seed=1)))
    assert told().exit_code == 1
    assert "x the time" in told().output
    other = copy.deepcopy(ops_run())
    other["settings"]["threads"] = 7
    after.write_text(json.dumps(other))
    assert "threads differ" in told().output
    after.write_text(json.dumps(train_run([0.9, 0.91])))
    before.write_text(json.dumps(train_run([0.97, 0.98])))
    assert told().exit_code == 1
    assert "Final accuracy beyond noise" in told().output
    after.write_text("{}")
    assert told().output.startswith("Error: ")
    assert "holds no results of schema" in told().output
