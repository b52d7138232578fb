"""The iteration: what the levers do to it, and that a CUDA graph could hold it."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from dfad_fast import DFADTrainer
from dfad_fast.data import load_dataset
from dfad_fast.jobs.teacher_training import train_teacher
from dfad_fast.methods import METHODS, Method
from dfad_fast.models import create_network
from dfad_fast.networks.levers import PLAIN, Levers
from dfad_fast.terms import L1, BatchNormStatistics, VirtualInterpolation, Weighted
from tests.small_networks import make_net

SHAPE = (1, 8, 8)
SMALL = {"latent_dim": 8, "batch_size": 8}
# Reading a value back, or a result whose shape depends on values: the host would have to wait for the device.
WAITS = {
    "_local_scalar_dense",
    "is_nonzero",
    "nonzero",
    "masked_select",
    "_unique2",
    "unique_dim",
    "unique_consecutive",
    "equal",
}


def trainer_of(pair, method="auto", speed="exact", **settings):
    teacher, student = copy.deepcopy(pair)
    return DFADTrainer(teacher, student, SHAPE, method, speed=speed, **{**SMALL, **settings})


def weights(trainer, names=("student", "generator")):
    return {
        f"{name}.{key}": value.clone()
        for name in names
        for key, value in getattr(trainer.networks, name).state_dict().items()
    }


def assert_same(one, other, **tolerance):
    for key, value in one.items():
        torch.testing.assert_close(value, other[key], msg=lambda text, key=key: f"{key}: {text}", **tolerance)


class Audit(TorchDispatchMode):
    """Writes down every operation with its shapes; refuses those that wait for the device or draw unseeded numbers."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        assert name not in WAITS, f"{name} waits for the device"
        if name.startswith("index"):
            places = next((arg for arg in args if isinstance(arg, (list, tuple))), ())
            assert all(x is None or x.dtype != torch.bool for x in places), f"{name} by a mask waits"
        if torch.Tag.nondeterministic_seeded in func.tags:
            assert isinstance(kwargs.get("generator"), torch.Generator), (
                f"{name} draws from torch's own source"
            )
        result = func(*args, **kwargs)
        tensors = [x for x in (*args, *kwargs.values(), result) if isinstance(x, torch.Tensor)]
        self.calls.append((str(func), [(tuple(x.shape), x.dtype, x.stride()) for x in tensors]))
        return result


def audited(trainer):
    iteration = trainer.distiller._schedule.whole
    draws = trainer.distiller.random.draw_for(iteration, 0.0)
    tables = (("student", trainer.method.student), ("generator", trainer.method.generator))
    given = {phase: [torch.tensor(row.weight) for row in rows] for phase, rows in tables}
    with Audit() as audit:
        iteration.run(draws, given)
    return audit.calls


CAPTURED = [
    name
    for name, method in METHODS.items()
    if all(part.can_be_captured for part in method.source_spec.walk())
]
_MIXTURES = (
    Weighted(1.0, VirtualInterpolation(policy="learned", labels=labels)) for labels in ("mixed", "teacher")
)
LEARNED = replace(METHODS["dfad-vi"], name="learned mixtures", student=(Weighted(1.0, L1()), *_MIXTURES))
CAPTURED.append(pytest.param(LEARNED, id=LEARNED.name))


@pytest.mark.parametrize("speed", ["exact", "fast"])
@pytest.mark.parametrize("method", CAPTURED)
def test_an_iteration_is_the_same_operations_each_time_and_waits_for_none(pair, method, speed):
    trainer = trainer_of(pair, method, speed)
    trainer.step()  # optimizers make their state in the first step
    first = audited(trainer)
    assert len(first) > 100
    assert audited(trainer) == first


def test_the_audit_sees_what_a_graph_could_not_hold(pair):
    trainer = trainer_of(pair, "dfad")
    for bad in (lambda x: x.sum().item(), lambda x: x[x > 0], lambda x: torch.randn(3)):
        with pytest.raises(AssertionError, match=r"waits|torch's own source"), Audit():
            bad(trainer.networks.student[0].weight)


def test_levers_leave_the_noise_and_the_mixtures_what_they_were(pair):
    """With one seed, exact runs with different levers see the same images."""
    one, other = (trainer_of(pair, "dfad-ar-vi", speed) for speed in ("exact", PLAIN))
    for trainer in (one, other):
        trainer.step()
    assert_same(weights(one, ["student"]), weights(other, ["student"]), rtol=1e-3, atol=1e-4)


def test_a_shared_batch_is_the_generators_own_and_is_generated_once(pair):
    trainer = trainer_of(pair, "dfad-ar-vi", "fast")
    seen, asked = [], []
    trainer.networks.generator.register_forward_hook(
        lambda module, args, images: seen.append(images.detach())
    )
    trainer.networks.student.register_forward_pre_hook(lambda module, args: asked.append(args[0].detach()))
    trainer.step()
    assert len(seen) == 1
    assert len(asked) == 1 + 2 * 5  # the generator's step, then each student step with its mixture
    assert all(torch.equal(images, seen[0]) for images in asked[1::2])
    assert trainer.generated_images == trainer.batch_size


def test_the_teacher_answers_a_shared_batch_once(pair):
    trainer = trainer_of(pair, "dfad-ar", "fast")
    answers = []
    trainer.distiller.prober.folding.network.register_forward_hook(lambda *_: answers.append(1))
    trainer.step()
    assert len(answers) == 1


@pytest.mark.parametrize(("batches", "expected"), [(1, [0] * 5), (2, [0, 0, 0, 1, 1]), (9, [0, 1, 2, 3, 4])])
@pytest.mark.parametrize("together", [False, True])
def test_student_steps_share_batches_evenly(pair, batches, expected, together):
    trainer = trainer_of(pair, "dfad", Levers(student_batches=batches, sample_together=together))
    asked, passes = [], []
    trainer.networks.generator.register_forward_pre_hook(lambda module, args: passes.append(len(args[0])))
    trainer.networks.student.register_forward_pre_hook(lambda module, args: asked.append(args[0].detach()))
    trainer.step()
    different = []
    for images in asked[:5]:
        if not any(torch.equal(images, other) for other in different):
            different.append(images)
    assert [
        next(i for i, x in enumerate(different) if torch.equal(x, images)) for images in asked[:5]
    ] == expected
    count = len(different)
    assert passes[:-1] == ([8 * count] if together else [8] * count)
    assert trainer.generated_images == 8 * (count + 1)


def test_one_batch_for_images_and_mixtures_is_the_same_without_batch_norm():
    torch.manual_seed(0)
    pair = make_net(8, batch_norm=False), make_net(4, batch_norm=False)
    found = []
    for wanted in (False, None):
        levers = Levers(one_student_batch=wanted)
        trainer = trainer_of(pair, "dfad-ar-vi", levers, recipe="published")
        assert not trainer.networks.student_depends_on_batch
        sizes = []
        trainer.networks.student.register_forward_pre_hook(lambda m, args, s=sizes: s.append(len(args[0])))
        for _ in range(3):
            trainer.step()
        found.append((weights(trainer, ["student"]), sizes[0]))
    assert [size for _, size in found] == [8, 16]
    assert_same(found[0][0], found[1][0], rtol=1e-4, atol=1e-5)


def test_a_student_with_batch_norm_gets_its_batches_apart_unless_asked(pair):
    for levers, expected in ((Levers(), 8), (Levers(one_student_batch=True), 16)):
        trainer = trainer_of(pair, "dfad-vi", levers)
        assert trainer.networks.student_depends_on_batch
        sizes = []
        trainer.networks.student.register_forward_pre_hook(lambda m, args, s=sizes: s.append(len(args[0])))
        trainer.step()
        assert sizes[0] == expected


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("method", ["dfad-ar-vi", "dfad-ar-vi-bn"])
def test_half_precision_keeps_losses_weights_and_optimisers_in_float32(pair, method, precision):
    trainer = trainer_of(pair, method, Levers(precision=precision))
    seen = []
    trainer.networks.student[0].register_forward_hook(lambda m, args, out: seen.append(out.dtype))
    losses = trainer.step()
    assert set(seen) == {getattr(torch, precision)}
    assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in losses.values())
    assert all(x.dtype in (torch.float32, torch.int64) for x in weights(trainer).values())
    states = trainer.distiller.student_optimizer.optimizer.state.values()
    assert all(x.dtype == torch.float32 for state in states for x in state.values() if x is not None)


def test_float16_leaves_out_a_step_that_overflows_and_goes_on(pair):
    trainer = trainer_of(pair, "dfad", Levers(precision="float16"))
    trainer.step()
    before = weights(trainer)
    trainer.distiller.student_optimizer._scaler._scale.fill_(float("inf"))
    trainer.step()
    after = weights(trainer)
    assert torch.equal(before["student.0.weight"], after["student.0.weight"])
    state = trainer.state_dict()
    assert "scaler" in state["student_optimizer"]
    trainer.load_state_dict(state)


def test_a_step_in_half_precision_is_near_the_exact_one(pair):
    exact, half = (trainer_of(pair, "dfad", Levers(precision=p)) for p in ("float32", "bfloat16"))
    a, b = exact.step(), half.step()
    assert a["student/l1"].item() == pytest.approx(b["student/l1"].item(), rel=0.1)
    assert a["student/l1"].item() != b["student/l1"].item()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("method", CAPTURED)
def test_a_captured_iteration_is_the_plain_one(pair, method, monkeypatch):
    # In TF32, and by atomic additions, cuDNN rounds so that two plain runs differ as much.
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    found = []
    for graph in (False, True):
        teacher, student = (network.cuda() for network in copy.deepcopy(pair))
        trainer = DFADTrainer(teacher, student, SHAPE, method, speed=Levers(graph=graph), **SMALL)
        trainer.planned_iterations = 20
        for _ in range(8):
            trainer.step()
        found.append(weights(trainer))
    assert_same(*found, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.long
def test_digits_are_learnt_as_well_in_bfloat16():
    """From a teacher of a few epochs, in a short run; both ways see the same noise."""
    digits = load_dataset("digits")
    shape = digits.image_shape
    torch.manual_seed(0)
    teacher = create_network("resnet8-w16", shape, 10)
    train_teacher(teacher, digits, epochs=6)
    test_images = list(digits.test_batches(512, torch.device("cpu")))
    accuracies = {}
    for precision in ("float32", "bfloat16"):
        torch.manual_seed(0)
        student = create_network("resnet8-w16", shape, 10)
        trainer = DFADTrainer(
            teacher, student, shape, "dfad-ar-vi-bn", speed=Levers(precision=precision), batch_size=64
        )
        summary = trainer.fit(60, test_images)
        accuracies[precision] = summary["student_accuracy_final"] / summary["teacher_accuracy"]
    assert min(accuracies.values()) > 0.85, accuracies
    assert abs(accuracies["float32"] - accuracies["bfloat16"]) < 0.05, accuracies


class Checkpointed(nn.Module):
    """Keeps no activations and runs again in backward."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1))
        self.head = nn.Linear(32, 4)

    def forward(self, x):
        features = checkpoint(self.body, x, use_reentrant=False)
        return self.head(features.mean((2, 3)))


def test_a_network_that_runs_again_in_backward():
    torch.manual_seed(0)
    trainer = DFADTrainer(Checkpointed(), Checkpointed(), SHAPE, "dfad", speed="exact", **SMALL)
    losses = trainer.step()
    assert all(loss.isfinite() for loss in losses.values())


def test_statistics_in_the_students_table_can_be_shared_too(pair):
    rows = (Weighted(1.0, L1()), Weighted(0.1, BatchNormStatistics()))
    trainer = trainer_of(pair, Method("both", "", rows, (Weighted(-1.0, L1()),)), "fast")
    assert all(loss.isfinite() for loss in trainer.step().values())
