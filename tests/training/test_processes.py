"""One run over several processes: what it computes, and what happens when one of them stops."""

import os
import random
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import yaml
from matplotlib.figure import Figure

from dfad_fast import DFADTrainer
from dfad_fast.distributed import differentiable, processes
from dfad_fast.engine.recipe import Recipe
from dfad_fast.errors import RunError, UsageError
from dfad_fast.methods import METHODS, Method
from dfad_fast.models import DFADGenerator
from dfad_fast.models.surgery.sync_batch_norm import SynchronizedBatchNorms
from dfad_fast.terms import (
    L1,
    BatchNormKL,
    BatchNormStatistics,
    ClassBalance,
    LogL1,
    ManifoldMixup,
    MarginReLU,
    TotalVariation,
    VirtualInterpolation,
    Weighted,
)
from tests.short_methods import WITHOUT_FILES
from tests.small_networks import forking, make_net

SHAPE = (1, 8, 8)
SMALL = {"latent_dim": 8, "batch_size": 12, "seed": 3}


class Together:
    """Runs a function of this file in several processes at once, each of which gives something back."""

    def __init__(self, folder):
        self._context = forking()
        self._folder = folder
        self._runs = 0

    def start(self, function, count, *args):
        self._runs += 1
        folder = self._folder / f"together-{self._runs}"
        folder.mkdir()
        started = [
            self._context.Process(target=_process, args=(rank, count, folder, function, args))
            for rank in range(count)
        ]
        for process in started:
            process.start()
        return started, folder

    def __call__(self, function, count, *args):
        started, folder = self.start(function, count, *args)
        self.wait(started)
        return [answer(folder, rank) for rank in range(count)]

    def wait(self, started):
        for process in started:
            process.join(100)
        stuck = [rank for rank, process in enumerate(started) if process.is_alive()]
        for process in started:
            process.kill()
        assert not stuck, f"processes {stuck} did not end"


def answer(folder, rank):
    return torch.load(folder / f"answer-{rank}.pt", weights_only=False)


def _process(rank, count, folder, function, args):
    torch.set_num_threads(1)
    Figure.savefig = lambda figure, path, **_: Path(path).touch()  # drawing takes longer than these runs
    dist.init_process_group("gloo", init_method=f"file://{folder / 'store'}", rank=rank, world_size=count)
    try:
        found = function(*args)
    except Exception as error:
        found = error
    torch.save(found, folder / f"answer-{rank}.pt")
    os._exit(0)  # waits for nobody: the others are told by its end


@pytest.fixture
def together(tmp_path):
    return Together(tmp_path)


def networks(dtype=torch.float64):
    torch.manual_seed(0)
    teacher, student = make_net(8), make_net(4)
    teacher.train()
    for _ in range(20):
        teacher(torch.randn(32, 1, 8, 8) * 1.5 + 0.3)
    return teacher.eval().to(dtype), student.to(dtype)


def trainer_of(dtype=torch.float64, **settings):
    teacher, student = networks(dtype)
    return DFADTrainer(teacher, student, SHAPE, **{**SMALL, "sync_batch_norm": True, **settings})


def state_after(iterations, dtype, settings):
    trainer = trainer_of(dtype, **settings)
    losses = [trainer.step() for _ in range(iterations)]
    mean = {name: differentiable.mean(value.double()).item() for name, value in losses[-1].items()}
    parts = trainer.networks
    learned = parts.student.state_dict() | parts.term_modules.state_dict(prefix="terms.")
    return learned, parts.generator.state_dict(), mean


def farthest(a, b):
    """The largest difference of all entries, relative to the largest of their tensor."""
    return max(
        ((a[key] - b[key]).abs().max() / b[key].abs().max().clamp_min(1e-3)).item()
        for key in b
        if b[key].is_floating_point()
    )


def alike(found, whole, tolerance):
    for state, expected in zip(found[:2], whole[:2], strict=True):
        assert farthest(state, expected) < tolerance
    assert found[2] == pytest.approx(whole[2], rel=tolerance)


# Every term that is no mean over images, in the phases where gradients have to flow through it.
STATISTICS = Method(
    "statistics",
    "here",
    (
        Weighted(1.0, L1()),
        Weighted(0.5, VirtualInterpolation()),
        Weighted(0.5, VirtualInterpolation(distance="softmax-mse", per_image=False)),
        Weighted(0.5, VirtualInterpolation(policy="learned")),
        Weighted(0.5, VirtualInterpolation(policy="learned", labels="teacher")),
        Weighted(0.5, ManifoldMixup(stage="4")),
        Weighted(0.1, MarginReLU()),
    ),
    (
        Weighted(-1.0, LogL1()),
        Weighted(-0.1, VirtualInterpolation()),
        Weighted(0.1, BatchNormStatistics()),
        Weighted(0.1, BatchNormKL()),
        Weighted(1.0, ClassBalance()),
        Weighted(1e-3, TotalVariation()),
    ),
)


def states_after(iterations, methods):
    return {m.name: state_after(iterations, torch.float64, {"method": m}) for m in methods}


ALL = [*WITHOUT_FILES.values(), STATISTICS]


@pytest.mark.parametrize(("count", "methods"), [(2, ALL), (3, [METHODS["dfad-ar-vi-bn"], STATISTICS])])
def test_several_processes_end_as_one(together, count, methods):
    """With synchronized batch norm and the same whole batch, but for the order of sums."""
    whole = states_after(2, methods)
    for found in together(states_after, count, 2, methods):
        for name in whole:
            # Adam makes much of the rounding in the gradients of biases before a batch norm, which are 0 else.
            alike(found[name], whole[name], 1e-6)


@pytest.mark.parametrize("count", [2, 3])
def test_several_processes_end_as_one_in_single_precision(together, count):
    settings = {
        "method": "dfad-ar-vi-bn",
        "recipe": Recipe("sgd", student_lr=0.02, student_weight_decay=5e-4),
    }
    whole = state_after(4, torch.float32, settings)
    for found in together(state_after, count, 4, torch.float32, settings):
        assert farthest(found[0], whole[0]) < 1e-3
        assert found[2] == pytest.approx(whole[2], rel=1e-3)


def cured(iterations):
    trainer = trainer_of(method="dfad", replay=2, generator_ema=0.9, student_ema=0.9)
    for _ in range(iterations):
        trainer.step()
    return trainer.networks.student.state_dict(), trainer.averaged_student.state_dict()


def test_cures_are_the_same(together):
    whole = cured(4)
    for found in together(cured, 2, 4):
        assert farthest(found[0], whole[0]) < 1e-7
        assert farthest(found[1], whole[1]) < 1e-7


def own_statistics():
    trainer = trainer_of(method="dfad", sync_batch_norm=False, dtype=torch.float32)
    trainer.step()
    trainer.step()
    weights = torch.cat([p.detach().flatten() for p in trainer.networks.student.parameters()])
    return weights, trainer.speed.fused_generator


def test_without_synchronized_batch_norm_weights_are_still_the_same_in_all(together):
    (first, fused), (second, _) = together(own_statistics, 2)
    assert torch.equal(first, second)
    assert fused
    assert not torch.allclose(first, own_statistics()[0])


class Undecided(torch.nn.Module):
    """A network with a part that is in some answers only, and with dropout."""

    def __init__(self):
        super().__init__()
        self.body, self.head = make_net(4), torch.nn.Linear(4, 4)
        self.calls = 0
        self.masks = []

    def forward(self, x):
        self.calls += self.training
        y = torch.nn.functional.dropout(self.body(x), 0.5, self.training)
        if self.training:
            self.masks.append((y == 0).detach())
        return y + self.head(y) if self.calls % 3 else y


def undecided():
    teacher, _ = networks(torch.float32)
    torch.manual_seed(0)
    student = Undecided()
    trainer = DFADTrainer(teacher, student, SHAPE, "dfad", **SMALL)
    student.masks.clear()
    for _ in range(3):
        trainer.step()
    return dict(student.named_parameters()), student.masks


def test_a_network_may_leave_a_part_out_and_drops_other_neurons_in_each_process(together):
    (first, masks), (second, other_masks) = together(undecided, 2)
    assert farthest(first, second) == 0.0
    assert not all(torch.equal(a, b) for a, b in zip(masks, other_masks, strict=True))


def started_differently(name, folder=None):
    value = processes.rank()
    changed = {"seed": {"seed": value}, "batch": {"batch_size": 12 + 12 * value}}
    if name == "teacher":
        teacher, student = networks()
        with torch.no_grad():
            next(teacher.parameters())[0] += value
        return DFADTrainer(teacher, student, SHAPE, **SMALL)
    if name == "out":
        return trainer_of(out=None if value else folder)
    if name == "fit":
        return trainer_of(method="dfad").fit(2 + value)
    if name == "evaluate":
        return trainer_of(method="dfad").fit(2, evaluate=[] if value else None)
    return trainer_of(method="dfad", **changed[name])


def started_in_every_wrong_way(folder):
    """What each of them ends in. No other process ends by it: all are told."""
    found = {}
    for name in ("seed", "teacher", "fit", "evaluate", "out"):
        with pytest.raises(UsageError) as caught:
            started_differently(name, folder)
        found[name] = str(caught.value)
    return found


def test_processes_with_different_tasks_are_refused(together, tmp_path):
    parts = {"seed": "settings", "teacher": "the teacher's weights", "fit": "iterations"}
    parts |= {"evaluate": "evaluate", "out": "out"}
    for messages in together(started_in_every_wrong_way, 2, tmp_path / "run"):
        for name, part in parts.items():
            assert f"different settings ({part}" in messages[name]


def test_a_batch_that_has_no_equal_parts_is_refused(together):
    for error in together(started_differently, 3, "batch"):
        assert isinstance(error, UsageError)
    for error in together(uneven, 2):
        assert "cannot be shared by 2 processes" in str(error)


def uneven():
    trainer_of(batch_size=9)


def run(folder, iterations, **settings):
    """In a folder; its result is the student's weights and what fit returned."""
    trainer = trainer_of(**{"method": "dfad-vi", "out": folder, **settings})
    summary = trainer.fit(
        iterations - trainer.iteration,
        evaluate=[(torch.zeros(4, 1, 8, 8, dtype=next(trainer.student.parameters()).dtype), torch.arange(4))],
    )
    return trainer.networks.student.state_dict(), summary, trainer.history, trainer.notices


def interrupted_run(folder, iterations, **settings):
    trainer = trainer_of(**{"method": "dfad-vi", "out": folder, **settings})

    class StopHere:
        def advance(self, iteration):
            # Only one process is told: the others stop with it.
            if processes.rank() == 1 and iteration == 3:
                os.kill(os.getpid(), signal.SIGTERM)

        def log(self, record):
            pass

    trainer.planned_iterations = iterations
    try:
        trainer.fit(iterations, progress=StopHere())
    except KeyboardInterrupt:
        return trainer.iteration
    return None


CURED = {"replay": 2, "student_ema": 0.9}
# The generator's step comes first, and each process has batch norm statistics of its own.
FAST = {
    "method": "dfad-ar-vi-bn",
    "student_terms": "l1 + 0.1*boundary(schedule=linear) + virtual(labels=teacher, policy=learned)",
    "speed": "fast",
    "sync_batch_norm": False,
    "dtype": torch.float32,
}


@pytest.mark.parametrize("settings", [CURED, FAST], ids=["cured", "fast"])
def test_an_interrupted_run_goes_on_to_the_same_bits(together, tmp_path, settings):
    whole = together(run_with, 2, tmp_path / "whole", 6, settings)
    assert together(stop_with, 2, tmp_path / "run", 6, settings) == [3, 3]
    ended = together(run_with, 2, tmp_path / "run", 6, {**settings, "resume": True})
    for (state, summary, history, notices), (expected, other, other_history, _) in zip(
        ended, whole, strict=True
    ):
        assert farthest(state, expected) == 0.0
        assert summary["student_accuracy_final"] == other["student_accuracy_final"]
        assert summary["processes"] == 2
        assert [r["student/l1"] for r in history] == [r["student/l1"] for r in other_history]
        assert notices == []
    # What all processes return and record is the same.
    assert ended[0][1] == ended[1][1]
    assert [{**r, "seconds": 0} for r in ended[0][2]] == [{**r, "seconds": 0} for r in ended[1][2]]
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == 6


def test_the_number_of_processes_may_change_and_that_is_said(together, tmp_path):
    (whole, *_) = run(tmp_path / "whole", 6, **CURED)
    assert together(stop_with, 2, tmp_path / "run", 6, CURED) == [3, 3]
    for state, _, _, notices in together(run_with, 3, tmp_path / "run", 6, {**CURED, "resume": True}):
        assert farthest(state, whole) < 1e-7
        assert "the run has had 2 and 3 processes" in notices[0]
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config["processes"] == 2
    assert config["changes"] == [{"at_iteration": 3, "processes": 3}]


def run_with(folder, iterations, settings):
    return run(folder, iterations, **settings)


def stop_with(folder, iterations, settings):
    return interrupted_run(folder, iterations, **settings)


def occupied(folder):
    return trainer_of(out=folder)


def test_what_the_first_process_refuses_all_refuse(together, tmp_path):
    run(tmp_path / "run", 1)
    for error in together(occupied, 2, tmp_path / "run"):
        assert isinstance(error, UsageError)
        assert "holds another run" in str(error)


class DiesAt:
    """A progress that ends its process, as a kill or a crash does."""

    def __init__(self, rank):
        self._rank = rank

    def advance(self, iteration):
        if iteration == 5 and processes.rank() == self._rank:
            os.kill(os.getpid(), signal.SIGKILL)

    def log(self, record):
        pass


def dying(folder, rank):
    trainer = trainer_of(method="dfad", out=folder, checkpoint_iterations=2)
    trainer.fit(500, progress=DiesAt(rank))


@pytest.mark.parametrize("dead", [0, 2])
def test_when_one_is_killed_the_others_stop_and_say_so(together, tmp_path, dead):
    started, folder = together.start(dying, 3, tmp_path / "run", dead)
    together.wait(started)
    assert [process.exitcode for process in started] == [
        -signal.SIGKILL if r == dead else 0 for r in range(3)
    ]
    for rank in {0, 1, 2} - {dead}:
        error = answer(folder, rank)
        assert isinstance(error, RunError)
        assert f"process {rank} of 3 lost contact with another one" in str(error)
        assert "holds the last checkpoint" in str(error)
    ended = together(run_to, 3, tmp_path / "run", 6)
    assert [state["iteration"] for state in ended] == [6, 6, 6]


def run_to(folder, iterations):
    trainer = trainer_of(method="dfad", out=folder, resume=True)
    assert trainer.iteration == 4
    return trainer.fit(iterations - trainer.iteration) | {"iteration": trainer.iteration}


class RaisesIn(torch.nn.Module):
    """A teacher that fails in one process, after a while."""

    def __init__(self, teacher):
        super().__init__()
        self.teacher, self.calls = teacher, 0

    def forward(self, x):
        self.calls += 1
        if processes.rank() == 1 and self.calls > 30:
            raise ValueError("the teacher has had enough")
        return self.teacher(x)


def failing_teacher(folder):
    teacher, student = networks()
    DFADTrainer(RaisesIn(teacher), student, SHAPE, "dfad", **SMALL, out=folder).fit(50)


def test_a_teacher_that_raises_in_one_process_ends_all(together, tmp_path):
    first, second = together(failing_teacher, 2, tmp_path / "run")
    assert "failed in process 1 (ValueError: the teacher has had enough)" in str(second)
    assert "lost contact with another one" in str(first)
    assert "nothing of the run is saved yet" in str(first)
    assert "the teacher has had enough" in (tmp_path / "run" / "traceback.txt").read_text()


def global_numbers(folder, resume):
    """What a user's code draws after a checkpoint."""
    trainer = trainer_of(method="dfad", out=folder, resume=resume)
    if not resume:
        trainer.fit(1)
    return torch.rand(1).item(), np.random.rand(), random.random()


def test_a_checkpoint_knows_every_process_sources_of_randomness(together, tmp_path):
    drawn = together(global_numbers, 2, tmp_path / "run", False)
    assert len({x for numbers in drawn for x in numbers}) == 6
    assert together(global_numbers, 2, tmp_path / "run", True) == drawn
    # One that the run had none of draws for itself.
    three = together(global_numbers, 3, tmp_path / "run", True)
    assert three[:2] == drawn
    assert three[2] not in drawn


def routed(seed):
    """Rows of other processes, and gradients back to them."""
    generator = torch.Generator().manual_seed(seed)
    whole = torch.randn(12, 2, generator=generator, dtype=torch.float64)
    perm = torch.randperm(12, generator=generator)
    weight = torch.randn(12, 2, generator=generator, dtype=torch.float64)
    rows = processes.own_rows(12)
    own = whole[rows].clone().requires_grad_()
    found = differentiable.partners(own, perm)
    (found * weight[rows]).sum().backward()
    expected = torch.zeros_like(whole).index_put_((perm,), weight, accumulate=True)[rows]
    gathered = differentiable.gather(own)
    return (
        torch.equal(found, whole[perm][rows]),
        torch.allclose(own.grad, expected),
        torch.equal(gathered, whole),
    )


@pytest.mark.parametrize("count", [1, 2, 3])
def test_rows_find_their_partners(together, count):
    for seed in range(2):
        assert together(routed, count, seed) == [(True, True, True)] * count


def of_synchronized(dtype, fused):
    """Images of a generator whose batch is spread, and gradients to its weights and its noise."""
    torch.manual_seed(0)
    generator = DFADGenerator((2, 8, 8), 6, width=8, fused=fused).to(dtype)
    noise = torch.randn(12, 6).to(dtype)
    weight = torch.randn(12, 2, 8, 8).to(dtype)
    rows = processes.own_rows(12)
    own = noise[rows].requires_grad_()
    with SynchronizedBatchNorms(generator).used():
        images = generator.train()(own)
    (images * weight[rows]).sum().backward()
    assert not any("forward" in module.__dict__ for module in generator.modules())
    return {
        "images": differentiable.gather(images.detach()),
        "noise": differentiable.gather(own.grad),
        **{name: differentiable.mean(p.grad) * processes.count() for name, p in generator.named_parameters()},
        **dict(generator.named_buffers()),
    }


def in_half_precision():
    """The largest difference from float32 of a synchronized batch norm's result and gradient, without and with
    weights."""
    torch.manual_seed(0)
    x = torch.randn(12, 3, 4, 4)[processes.own_rows(12)]
    found = []
    for affine in (False, True):
        norm = torch.nn.Sequential(torch.nn.BatchNorm2d(3, affine=affine)).train()
        results = []
        for dtype in (torch.float32, torch.bfloat16):
            own = x.to(dtype).detach().clone().requires_grad_()
            with SynchronizedBatchNorms(norm).used():
                out = norm(own)
            out.square().mul(torch.arange(4.0)).sum().backward()
            assert (out.dtype, own.grad.dtype) == (dtype, dtype)
            results.append((out.float(), own.grad.float()))
        found += [(a - b).abs().max().item() for a, b in zip(*results, strict=True)]
    return found


def test_synchronized_batch_norm_in_half_precision(together):
    for found in together(in_half_precision, 2):
        assert max(found) < 0.2


def test_a_batch_norm_with_something_of_its_own_is_not_synchronized():
    class WithActivation(torch.nn.BatchNorm2d):
        def forward(self, x):
            return super().forward(x).relu()

    with pytest.raises(UsageError, match="WithActivation is not a plain batch norm layer"):
        SynchronizedBatchNorms(torch.nn.Sequential(WithActivation(2)))


@pytest.mark.parametrize(("dtype", "fused", "tolerance"), [("float64", False, 1e-9), ("float32", True, 2e-4)])
def test_synchronized_batch_norm_is_that_of_the_whole_batch(together, dtype, fused, tolerance):
    dtype = getattr(torch, dtype)
    whole = of_synchronized(dtype, fused)
    rounding = {
        "project.0.bias",
        "upsample.1.bias",
        "upsample.5.bias",
    }  # what a batch norm after them takes off
    for found in together(of_synchronized, 3, dtype, fused):
        for name in set(whole) - rounding:
            assert (found[name] - whole[name]).abs().max() <= tolerance * whole[name].abs().max(), name


def with_sharded_teacher(folder, shard):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    teacher, student = networks(torch.float32)
    teacher.requires_grad_(False)
    if shard:
        fully_shard(teacher, mesh=init_device_mesh("cpu", (processes.count(),)))
    trainer = DFADTrainer(teacher, student, SHAPE, "dfad-ar-vi-bn", out=folder, **SMALL)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(64, 1, 8, 8, generator=generator)
    summary = trainer.fit(3, evaluate=[(images, torch.arange(64) % 4)])
    if shard:
        teacher.reshard()  # the outermost module keeps what it gathered
    weight = next(teacher.parameters())
    held = weight.to_local().numel() if shard else weight.numel()
    return summary, trainer.history[-1]["student/l1"], held


def test_a_teacher_may_be_sharded(together, tmp_path):
    whole = together(with_sharded_teacher, 2, tmp_path / "whole", False)
    sharded = together(with_sharded_teacher, 2, tmp_path / "sharded", True)
    for (summary, loss, held), (expected, expected_loss, all_of_it) in zip(sharded, whole, strict=True):
        assert held == all_of_it // 2
        assert loss == pytest.approx(expected_loss, rel=1e-3)
        assert summary["teacher_accuracy"] == expected["teacher_accuracy"]
        assert summary["teacher_parameters"] == expected["teacher_parameters"]
    assert (tmp_path / "sharded" / "samples.png").is_file()
