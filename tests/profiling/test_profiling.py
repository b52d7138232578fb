import copy
import itertools
import json
import time
from dataclasses import replace

import pytest
import torch
from rich.console import Console
from torch import nn
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

from dfad_fast import DFADTrainer
from dfad_fast.errors import UsageError
from dfad_fast.methods import Method
from dfad_fast.networks import optimizers
from dfad_fast.profiling import flops
from dfad_fast.profiling import hooks as hooks_module
from dfad_fast.profiling.flops import Ceiling, MultiplyAdds, multiply_adds
from dfad_fast.profiling.hooks import StepHooks
from dfad_fast.profiling.profiling import profile
from dfad_fast.profiling.table import print_profile
from dfad_fast.profiling.timeline import OVERHEAD, HostClock, Timeline
from dfad_fast.terms import L1, Term, Weighted
from tests.small_networks import make_net

SHAPE = (1, 8, 8)
SMALL = {"latent_dim": 8, "batch_size": 4}


@pytest.fixture(autouse=True)
def _small_matrices(monkeypatch):
    monkeypatch.setattr(flops, "_SIDE", 64)


class Slow(torch.autograd.Function):
    """The identity, which takes a while each way."""

    @staticmethod
    def forward(ctx, x, forward, backward):
        ctx.milliseconds = backward
        time.sleep(forward / 1000)
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        time.sleep(ctx.milliseconds / 1000)
        return gradient, None, None


class SlowNet(nn.Sequential):
    def __init__(self, network, forward, backward):
        super().__init__(network)
        self.milliseconds = forward, backward

    def forward(self, x):
        return Slow.apply(super().forward(x), *self.milliseconds)


class SlowTerm(Term):
    """Slow in itself, and shows the student further images."""

    name = "slow"

    def virtual_images(self, images, draws):
        time.sleep(0.001)
        return images

    def __call__(self, probe):
        again = Slow.apply(probe.virtual_student, 3, 2)
        return (probe.student - probe.teacher).abs().mean() + again.square().mean()


def test_time_goes_to_the_part_and_phase_that_takes_it(monkeypatch):
    nodes = hooks_module._nodes
    # Looking at the graph does not count.
    monkeypatch.setattr(hooks_module, "_nodes", lambda loss: (time.sleep(0.015), nodes(loss))[1])
    trainer = DFADTrainer(
        SlowNet(make_net(2), 3, 7),
        SlowNet(make_net(2), 5, 11),
        SHAPE,
        Method("slow", "here", (Weighted(1.0, SlowTerm()),), (Weighted(-1.0, L1()),), student_steps=2),
        SlowNet(nn.Sequential(nn.Linear(8, 64), nn.Unflatten(1, SHAPE)), 13, 17),
        **SMALL,
    )
    hooks = StepHooks(trainer, HostClock())
    with hooks.attached():
        trainer.step()
        trainer.step()
    assert hooks.timeline.phases() == {"student": 4, "generator": 2}
    seconds = hooks.timeline.seconds()
    expected = {
        ("student", "generator forward"): 4 * 13,
        ("student", "teacher forward"): 4 * 3,
        ("student", "student forward"): 4 * 2 * 5,
        ("student", "student backward"): 4 * 2 * 11,
        ("student", "losses"): 4 * (1 + 3 + 2),
        ("generator", "generator forward"): 2 * 13,
        ("generator", "generator backward"): 2 * 17,
        ("generator", "teacher forward"): 2 * 3,
        ("generator", "teacher backward"): 2 * 7,
        ("generator", "student forward"): 2 * 5,
        ("generator", "student backward"): 2 * 11,
    }
    rest = dict(seconds)
    for key, milliseconds in expected.items():
        assert milliseconds <= 1000 * rest.pop(key) < 1.5 * milliseconds + 30, key
    assert set(rest) == {
        ("student", "optimizers"),
        ("student", OVERHEAD),
        ("generator", "losses"),
        ("generator", "optimizers"),
        ("generator", OVERHEAD),
    }
    assert sum(rest.values()) < 0.2


def test_the_optimizer_of_a_terms_module_ends_no_phase():
    terms = "l1 + virtual(policy=learned)"
    trainer = DFADTrainer(make_net(2), make_net(2), SHAPE, "dfad", student_terms=terms, **SMALL)
    hooks = StepHooks(trainer, HostClock())
    with hooks.attached():
        trainer.step()
    assert hooks.timeline.phases() == {"student": 5, "generator": 1}
    assert {("student", "connectors forward"), ("student", "connectors backward")} <= set(
        hooks.timeline.seconds()
    )


class CountingClock:
    """Every look at it takes one second."""

    def __init__(self):
        self._ticks = itertools.count()

    def read(self):
        return next(self._ticks)

    def between(self, first, second):
        return second - first

    def wait(self):
        pass


def test_each_moment_belongs_to_one_part_of_one_phase():
    timeline = Timeline(CountingClock())
    timeline.start()  # at 0: overhead
    timeline.enter("a")  # 1
    timeline.enter("b")  # 2
    timeline.turn_to("b")  # is there already
    timeline.turn_to("c")  # 3
    timeline.leave()  # 4: a again
    timeline.enter(None)  # 5: does not count
    timeline.leave()  # 6: a again
    timeline.leave()  # 7: overhead
    timeline.end_phase("first")  # 8
    timeline.enter("a")  # 9
    timeline.leave()  # 10
    timeline.end_phase("second")  # 11
    timeline.stop()  # 12
    timeline.start()  # 13: nothing between
    timeline.stop()  # 14
    assert timeline.seconds() == {
        ("first", OVERHEAD): 2,
        ("first", "a"): 3,
        ("first", "b"): 1,
        ("first", "c"): 1,
        ("second", OVERHEAD): 4,
        ("second", "a"): 1,
    }
    assert timeline.phases() == {"first": 1, "second": 1}


def test_hooks_change_nothing_and_leave_nothing_behind(pair):
    class Inheriting(L1):
        pass

    method = Method("m", "here", (Weighted(1.0, Inheriting()),), (Weighted(-1.0, L1()),))

    def trained(hooked):
        trainer = DFADTrainer(*copy.deepcopy(pair), SHAPE, method, **SMALL)
        if hooked:
            with StepHooks(trainer, HostClock()).attached():
                trainer.step()
        else:
            trainer.step()
        return trainer.networks

    call = L1.__call__
    hooked, plain = trained(True), trained(False)
    assert not optimizers._around_backward
    assert L1.__call__ is call
    assert "__call__" not in vars(Inheriting)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in hooked.student.modules())
    assert not _global_optimizer_pre_hooks
    assert not _global_optimizer_post_hooks
    for key, value in hooked.student.state_dict().items():
        assert torch.equal(value, plain.student.state_dict()[key])


def test_a_folded_teacher_is_the_teacher(pair):
    trainer = DFADTrainer(*pair, SHAPE, "dfad", **SMALL)
    assert trainer.distiller.prober.folding.folded == 2
    hooks = StepHooks(trainer, HostClock())
    with hooks.attached():
        trainer.step()
    assert {"teacher forward", "teacher backward"} < {part for _, part in hooks.timeline.seconds()}
    asked = {(call.network, *call[3:], images) for call, images in hooks.images.items()}
    assert asked == {
        ("generator", (8,), False, False, 20),
        ("generator", (8,), True, False, 4),
        ("teacher", SHAPE, False, False, 20),
        ("teacher", SHAPE, False, True, 4),
        ("student", SHAPE, True, False, 20),
        ("student", SHAPE, False, True, 4),
    }
    teachers = {call.module for call in hooks.images if call.network == "teacher"}
    assert teachers == {trainer.distiller.prober.folding.network}


@pytest.mark.parametrize(
    ("to_weights", "to_inputs", "backward"),
    [(False, False, 0), (True, False, 1), (False, True, 1), (True, True, 2)],
)
def test_multiply_adds_are_those_of_the_formula(to_weights, to_inputs, backward):
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU())
    forward = 8 * 8 * 8 * 27
    counted = multiply_adds(network, (3, 8, 8), to_weights, to_inputs)
    assert counted == MultiplyAdds(forward, backward * forward)


def test_multiply_adds_of_a_network_that_needs_its_data_are_unknown():
    class Picky(nn.Linear):
        def forward(self, x):
            return super().forward(x) if x.sum() > 0 else x

    assert multiply_adds(Picky(3, 3), (3,), False, False) is None


def test_a_profile_is_whole(pair):
    trainer = DFADTrainer(*pair, SHAPE, "dfad-ar", **SMALL)
    found = profile(trainer, iterations=7, warm_up=2)
    assert trainer.iteration == 2 + 1 + 2 * 7
    assert found.steps == {"student": 5, "generator": 1}
    assert found.images == 6 * 4
    assert len(found.seconds_rounds) == 5
    assert min(found.seconds_rounds) <= found.seconds <= max(found.seconds_rounds)
    assert found.images_per_second == 24 / found.seconds
    assert sum(part.seconds for part in found.parts) == found.seconds_watched
    # Hooks cost little, but a busy machine may be several times slower in one than in the other.
    assert 0.2 < found.seconds_watched / found.seconds < 5
    assert found.multiply_adds == sum(part.multiply_adds for part in found.parts)
    teacher = 8 * 64 * 9 + 16 * 16 * 72 + 16 * 4
    by_part = {(part.phase, part.part): part.multiply_adds for part in found.parts}
    assert by_part["student", "teacher forward"] == 20 * teacher
    assert by_part["generator", "teacher backward"] == 4 * teacher
    assert by_part["student", "connectors forward"] == 20 * (4 * 8 * 64 + 8 * 16 * 16)
    assert by_part["student", OVERHEAD] == 0
    assert [ceiling.dtype for ceiling in found.ceilings] == ["float32", "bfloat16", "float16"]
    assert all(ceiling.flops_per_second > 1e6 for ceiling in found.ceilings)
    assert found.peak_resident_bytes > 50 * 2**20
    assert found.peak_device_bytes is None
    assert found.levers["fold_teacher"] == "on"
    assert "student's batch norms: " in "\n".join(found.kernels)
    data = json.loads(json.dumps(found.as_data()))
    assert data["flops_per_second"] == 2 * found.multiply_adds / found.seconds
    assert data["parts"][0].keys() == {"phase", "part", "seconds", "multiply_adds"}


def test_only_what_the_machine_is_fast_in_is_a_ceiling(pair, capsys, monkeypatch):
    found = profile(DFADTrainer(*pair, SHAPE, "dfad", **SMALL), iterations=1, warm_up=0)
    measured = [
        Ceiling("float32", 2048, 5e10),
        Ceiling("bfloat16", 2048, 9e10),
        Ceiling("float16", 256, 2e8),
        Ceiling("float8", 2048, 4e10),
    ]
    print_profile(Console(width=200), replace(found, ceilings=measured, threads=1))
    printed = capsys.readouterr().out
    rows = [line.split(":")[0] for line in printed.splitlines() if line.startswith("matrix products")]
    assert rows == ["matrix products, float32, 2048^3", "matrix products, bfloat16, 2048^3"]
    assert "(s)" not in printed
    assert "1 thread\n" in printed
    assert "over 1 round)" in printed


def test_a_step_that_runs_no_hooks_is_overhead(pair, capsys):
    trainer = DFADTrainer(*pair, SHAPE, **SMALL)
    trainer.step = lambda: time.sleep(0.001)
    found = profile(trainer, iterations=1, warm_up=0)
    assert [part.part for part in found.parts] == [OVERHEAD]
    assert found.multiply_adds is None
    print_profile(Console(), found)
    assert "their parts cannot be told apart" in capsys.readouterr().out


@pytest.mark.parametrize(("iterations", "warm_up", "name"), [(0, 1, "--iterations"), (1, -1, "--warm-up")])
def test_numbers_that_make_no_profile_are_refused(pair, iterations, warm_up, name):
    trainer = DFADTrainer(*pair, SHAPE, **SMALL)
    with pytest.raises(UsageError, match=f"{name} must be at least"):
        profile(trainer, iterations, warm_up)
