"""The benchmark of whole iterations on a tiny pair: that it measures rightly, not how fast anything is."""

import csv
import json
import math
from dataclasses import replace

import pytest
import torch
from click.testing import CliRunner
from torch import nn

from benchmarks import run
from benchmarks.measuring.results import SCHEMA
from benchmarks.measuring.settings import Settings
from benchmarks.step import contestant, races, report
from benchmarks.step.cases import CONTENDERS, FAITHFUL, PAIRS, Contender, Pair
from benchmarks.step.contestant import Ceilings, StepContestant
from benchmarks.step.loops import make_loop
from benchmarks.step.racers import Racer
from dfad_fast.engine.recipe import Recipe

TINY = Pair(
    "tiny", "resnet8-w32", "resnet8-w16", (1, 8, 8), 8, 8, Recipe("sgd", student_lr=1e-4, lr_decay="constant"),
    generator="auto",
)  # fmt: skip
FAST = Settings(threads=1, rounds=3, answer_seconds=120.0)
BY_NAME = {contender.name: contender for contender in CONTENDERS}


@pytest.fixture(scope="module")
def measured(forking):
    contenders = [
        replace(c, pairs=("tiny",), races=("speeds",), allocators=("pinned",))
        for c in (BY_NAME[FAITHFUL], BY_NAME["exact"], Contender("broken", "trainer", "no such method"))
    ]
    told = []
    with forking():
        results = races.run([TINY], contenders, FAST, lambda *told_: told.append(told_), (64, 2**16))
    assert [done for done, _, _ in told] == list(range(told[0][1]))
    return results


def row(results, contender):
    return next(row for row in results["rows"] if row["contender"] == contender)


def test_the_table_of_contenders_is_sound():
    assert len(BY_NAME) == len(CONTENDERS)
    for contender in CONTENDERS:
        assert contender.against is None or BY_NAME[contender.against].method == "dfad"
        assert set(contender.pairs) <= set(PAIRS)
        published = [c for c in CONTENDERS if (c.loop, c.method) == ("faithful", contender.method)]
        assert len(published) == 1
        assert set(contender.pairs) <= set(published[0].pairs)


@pytest.mark.parametrize(("slow_seconds", "largest"), [(math.inf, 600), (0.0, contestant.FIRST_SIDE)])
def test_matrices_grow_until_a_product_is_slow(monkeypatch, slow_seconds, largest):
    sides = []
    monkeypatch.setattr(contestant, "SLOW_SECONDS", slow_seconds)
    monkeypatch.setattr(torch, "mm", lambda a, b: sides.append(len(a)))
    rates = Ceilings(600, 2**16, "cpu").measure()
    assert max(sides) == largest
    assert all(rate > 0 for rate in rates.values())


def test_a_run_is_complete(measured):
    again = json.loads(json.dumps(measured, allow_nan=False))
    assert (again["kind"], again["schema"], again["complete"]) == ("step", SCHEMA, True)
    assert set(again["ceilings"]) == {"float32", "bfloat16", "float16", "copy"}
    assert [row["contender"] for row in again["rows"]] == [FAITHFUL, "exact", "broken"]
    for name in (FAITHFUL, "exact"):
        found = row(again, name)
        assert found["problem"] is None
        assert found["error"] <= races.TOLERANCE
        assert len(found["seconds"]) == found["runs"] == FAST.rounds
        assert found["images"] == 6 * TINY.batch_size
        assert found["images_per_second"] == pytest.approx(found["images"] / found["median_seconds"])
        assert found["peak_bytes"] > 0
    assert row(again, FAITHFUL)["speedup"] == 1
    assert row(again, FAITHFUL)["error"] == 0


def test_the_parts_of_an_iteration_are_told_apart(measured):
    parts = [part for part in measured["breakdowns"] if part["contender"] == "exact"]
    assert {"generator forward", "teacher forward", "student backward", "optimizers"} <= {
        part["part"] for part in parts
    }
    together = sum(part["seconds"] for part in parts)
    assert 0.2 < together / row(measured, "exact")["median_seconds"] < 20
    assert not [part for part in measured["breakdowns"] if part["contender"] == FAITHFUL]


def test_who_would_not_fit_is_skipped_and_said(forking, monkeypatch):
    monkeypatch.setattr(races, "memory_available", lambda: 2**30)
    pair = replace(TINY, bytes_per_image=2**30)
    with forking():
        results = races.run(
            [pair], [replace(BY_NAME["exact"], pairs=("tiny",))], FAST, lambda *_: None, (64, 2**16)
        )
    assert not results["rows"]  # no race by itself
    contenders = [replace(BY_NAME["fast"], pairs=("tiny",))]
    with forking():
        (skipped,) = races.run([pair], contenders, FAST, lambda *_: None, (64, 2**16))["rows"]
    assert skipped["skipped"]
    assert skipped["problem"] == "skipped: about 4 GiB of free memory are needed"
    assert "median_seconds" not in skipped


def test_the_pairs_name_the_memory_that_they_take():
    for pair in PAIRS.values():
        assert 2**30 < pair.memory_needed("faithful") < 2**33
        assert pair.memory_needed("trainer") < pair.memory_needed("faithful")


def test_a_gpu_gets_its_own_contenders():
    names = {
        device: [c.name for c in races.entrants(PAIRS["lenet"], "speeds", CONTENDERS, device)]
        for device in ("cpu", "cuda")
    }
    assert "auto" in names["cuda"]
    assert "auto" not in names["cpu"]
    entered = races.entrants(PAIRS["lenet"], "levers", CONTENDERS, "cuda")
    assert "exact, no Winograd" not in [c.name for c in entered]
    assert all(c.allocators == ("pinned",) for c in entered)


def test_a_contender_that_fails_is_out_and_named(measured):
    assert "unknown method 'no such method'" in row(measured, "broken")["problem"]
    assert "median_seconds" not in row(measured, "broken")


@pytest.mark.pictures
def test_report_and_files(measured, tmp_path):
    files = {file.name: file for file in report.save(measured, tmp_path / "out")}
    assert set(files) == {"step.json", "step.csv", "step.md", "breakdown.png", "images.png"}
    assert json.loads(files["step.json"].read_text()) == json.loads(json.dumps(measured))
    with files["step.csv"].open() as stream:
        assert len(list(csv.DictReader(stream))) == len(measured["rows"])
    text = files["step.md"].read_text()
    assert f"| {FAITHFUL} |" in text
    assert "out: UsageError" in text
    assert all(len(line) == len(sheet.columns) for sheet in report.sheets(measured) for line in sheet.lines)


def test_multiply_adds_are_those_of_the_layers():
    loop = make_loop(TINY, BY_NAME[FAITHFUL])
    generator, teacher, student = (
        layers(network, example)
        for network, example in (
            (loop.generator, torch.randn(8, 8)),
            (loop.teacher, torch.randn(8, 1, 8, 8)),
            (loop.student, torch.randn(8, 1, 8, 8)),
        )
    )
    forward = 6 * (sum(generator) + sum(teacher) + sum(student))
    # Twice the forward, but for the gradients to noise and, in the student's steps, to images.
    of_student_steps = 5 * (2 * sum(student) - student[0])
    of_generator_step = 2 * (sum(generator) + sum(teacher) + sum(student)) - generator[0]
    counted = StepContestant(TINY, BY_NAME[FAITHFUL], "cpu").first(1, True)["multiply_adds"]
    assert counted == forward + of_student_steps + of_generator_step


def layers(network, example):
    """Multiply-adds of each convolution and linear layer on ``example``, in the order in which they run."""
    found = []

    def see(module, _, output):
        per_output = module.weight[0].numel()
        found.append(output.numel() * per_output)

    hooks = [m.register_forward_hook(see) for m in network.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    network(example)
    for hook in hooks:
        hook.remove()
    return found


def test_who_differs_from_the_published_loop_is_out(monkeypatch):
    assert races.difference([{"l1": 1.1}], [{"l1": 1.0}]) == pytest.approx(0.1)
    assert (
        races.difference([{}], [{"l1": 1.0}])
        == races.difference([{"l1": math.nan}], [{"l1": 1.0}])
        == math.inf
    )

    class Stub:
        """Answers as a process does, without one."""

        def __init__(self, losses):
            self._losses = losses

        def ask(self, *_):
            pass

        def answer(self):
            return {"losses": [{"l1": self._losses}], "images": 48.0, "multiply_adds": 1}

    def racer(loop, loss, exact=True):
        contender = Contender(f"{loop} {loss}", loop, exact=exact)
        return Racer(contender.name, Stub(loss), row=contender, allocator="pinned")

    racers = [
        racer("faithful", 1.0),
        racer("trainer", 1.0001),
        racer("trainer", 1.01),
        racer("trainer", 1.01, False),
    ]
    races.qualify([*racers, nan := racer("trainer", math.nan, False)])
    assert [r.problem is None for r in racers] == [True, True, False, True]
    assert racers[2].problem == "wrong: losses differ by 0.01, allowed 0.001"
    assert nan.problem is not None


def test_the_command_line_writes_its_files(monkeypatch, tmp_path, measured):
    asked = {}

    def fake(pairs, contenders, settings, tell, ceiling_sizes, names):
        asked.update(pairs=[(pair.name, pair.batch_size) for pair in pairs], settings=settings, races=names)
        return {**measured, "rows": measured["rows"][: 2 * len(pairs)]}

    monkeypatch.setattr(races, "run", fake)
    done = CliRunner().invoke(run.main, ["step", "--quick", "--threads", "1", "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert asked["pairs"] == [("lenet", 128)]
    assert asked["races"] == ("speeds",)
    assert asked["settings"].threads == 1
    assert {file.name for file in tmp_path.iterdir()} >= {"step.json", "step.csv", "step.md"}
    lost = CliRunner().invoke(run.main, ["step", "--out", str(tmp_path)])
    assert asked["pairs"] == [("lenet", 512), ("fashion", 128), ("resnet20", 128), ("resnet", 64)]
    assert lost.exit_code == 1
    assert "Error: failed, see above: broken" in lost.output
