"""Networks in the forms that people have them in, and trainers under the modes that people leave switched on."""

import pickle
import threading

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn.utils import parametrizations

from dfad_fast import DFADTrainer
from dfad_fast.errors import UsageError

SHAPE = (3, 8, 8)
SMALL = {"latent_dim": 4, "batch_size": 4, "seed": 0}


def net(width=8):
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(),
        nn.Conv2d(width, width, 3, stride=2, padding=1), nn.BatchNorm2d(width), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 4),
    )  # fmt: skip


def parametrized(width=8):
    network = net(width)
    parametrizations.weight_norm(network[0])
    parametrizations.spectral_norm(network[3])
    return network


def lazy(_width=8):
    return nn.Sequential(nn.LazyConv2d(8, 3), nn.LazyBatchNorm2d(), nn.ReLU(), nn.Flatten(), nn.LazyLinear(4))


def compiled_in_place(width=8):
    network = net(width)
    network.compile(backend="eager")
    return network


class First(nn.Module):
    """Whose first parameter is of a type that images do not have."""

    def __init__(self, dtype, width):
        super().__init__()
        self.first = nn.Parameter(torch.zeros(2, dtype=dtype))
        self.body = net(width)

    def forward(self, x):
        return self.body(x)


class State(nn.Linear):
    """``kind``: of its extra state, plain data or an object that only code can read again."""

    def __init__(self, kind):
        super().__init__(8, 4)
        self.kind, self.loaded = kind, None

    def get_extra_state(self):
        return {"scales": [1.0, torch.ones(2)]} if self.kind == "plain" else threading.local

    def set_extra_state(self, state):
        self.loaded = state


def with_state(kind):
    network = net()
    network[-1] = State(kind)
    return network


def mask(width=8):
    network = net(width)
    network.register_buffer("mask", torch.tensor([0.0, float("-inf")]))
    return network


FORMS = {
    "compiled": lambda width: torch.compile(net(width), backend="eager"),
    "compiled in place": compiled_in_place,
    "data parallel": lambda width: nn.DataParallel(net(width)),
    "nested wrappers": lambda width: torch.compile(nn.DataParallel(net(width)), backend="eager"),
    "parametrized": parametrized,
    "lazy": lazy,
    "half first": lambda width: First(torch.float16, width),
    "complex first": lambda width: First(torch.complex64, width),
    "extra state": lambda width: with_state("plain"),
    "odd extra state": lambda width: with_state("odd"),
    "infinite buffer": mask,
}
PLAIN = ("compiled", "compiled in place", "data parallel", "nested wrappers")


@pytest.mark.parametrize("form", FORMS)
def test_networks_of_a_form_are_distilled_kept_and_resumed(form, tmp_path):
    torch.manual_seed(0)
    teacher, student = FORMS[form](8), FORMS[form](4)
    other = FORMS[form](4)
    trainer = DFADTrainer(teacher, student, SHAPE, out=tmp_path, student_ema=0.9, **SMALL)
    assert trainer.method.reads_statistics
    assert trainer.networks.tap_pairs
    trainer.fit(2)
    assert trainer.best_student is not None
    saved = load_file(tmp_path / "student.safetensors")
    if form in PLAIN:
        net(4).load_state_dict(saved)  # names without the wrappers'
    again = DFADTrainer(teacher, other, SHAPE, out=tmp_path, student_ema=0.9, resume=True, **SMALL)
    assert again.iteration == 2
    for name, value in again.networks.student.state_dict().items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, saved[name]), name


def test_plain_extra_state_comes_back(tmp_path):
    teacher, student = net(), with_state("plain")
    DFADTrainer(teacher, student, SHAPE, out=tmp_path, **SMALL).fit(1)
    other = with_state("plain")
    DFADTrainer(teacher, other, SHAPE, out=tmp_path, resume=True, **SMALL)
    assert other[-1].loaded["scales"][0] == 1.0


@pytest.mark.parametrize("which", ["teacher", "student"])
def test_torchscript_is_distilled_by_what_reads_no_features(which):
    pair = {"teacher": net(), "student": net(4)}
    pair[which] = torch.jit.script(pair[which])
    before = {key: value.clone() for key, value in pair["student"].state_dict().items()}
    DFADTrainer(**pair, image_shape=SHAPE, method="dfad", student_ema=0.9, **SMALL).fit(1)
    assert any(not torch.equal(value, before[key]) for key, value in pair["student"].state_dict().items())
    with pytest.raises(UsageError, match=rf"the {which} is a program \(TorchScript.*features cannot be read"):
        DFADTrainer(**pair, image_shape=SHAPE, method="dfad-ar", **SMALL)
    with pytest.raises(UsageError, match=f"the {which} is a program"):
        DFADTrainer(**pair, image_shape=SHAPE, **{f"taps_{which}": ["2"]}, **SMALL)


def test_an_exported_program_is_distilled_by_what_reads_no_features():
    dynamic = ({0: torch.export.Dim.AUTO},)
    teacher = torch.export.export(net().eval(), (torch.randn(4, *SHAPE),), dynamic_shapes=dynamic).module()
    losses = DFADTrainer(teacher, net(4), SHAPE, "dfad", **SMALL).step()
    assert all(loss.isfinite() for loss in losses.values())
    with pytest.raises(UsageError, match="the teacher is a program"):
        DFADTrainer(teacher, net(4), SHAPE, "dfad-ar", **SMALL)


def test_a_teacher_is_only_asked_in_eval_mode():
    class Evaluated(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = net()

        def forward(self, x):
            if self.training:
                raise RuntimeError("in training I need labels")
            return self.body(x)

    DFADTrainer(Evaluated(), net(4), SHAPE, "dfad", **SMALL).step()


class Answering(nn.Module):
    """Answers a tuple, counts its calls, and drops at the top, where its own mode decides."""

    def __init__(self):
        super().__init__()
        self.body, self.calls = net(4), 0

    def forward(self, x):
        self.calls += 1
        y = nn.functional.dropout(self.body(x), 0.5, self.training)
        return y, x


def test_a_network_with_something_around_it_is_the_users_in_all_else():
    student = Answering()
    trainer = DFADTrainer(net(), student, SHAPE, "dfad", student_ema=0.5, **SMALL)
    calls = student.calls
    trainer.fit(1)
    assert student.calls >= calls + 5
    assert student.training == student.body.training
    images = torch.randn(2, *SHAPE)
    copied = pickle.loads(pickle.dumps(trainer.averaged_student))
    assert torch.equal(copied(images), trainer.averaged_student(images))


def test_a_forward_put_over_the_classs_is_kept():
    student = net(4)
    student.forward = lambda x: {"logits": nn.Sequential.forward(student, x)}
    trainer = DFADTrainer(net(), student, SHAPE, "dfad", **SMALL)
    trainer.step()
    assert list(trainer.distiller.trained.weights()["student"]) == list(student.state_dict())


def test_a_teacher_for_few_images_at_once_is_asked_for_no_more():
    class Few(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = net()

        def forward(self, x):
            assert len(x) <= 4, "4 at most"
            return self.body(x)

    DFADTrainer(Few(), net(4), SHAPE, "dfad", **SMALL).step()
    with pytest.raises(UsageError, match=r"the teacher cannot take a batch of 8 images .*4 at most"):
        DFADTrainer(Few(), net(4), SHAPE, "dfad", **{**SMALL, "batch_size": 8})


def test_a_frozen_torchscript_teacher():
    teacher = torch.jit.freeze(torch.jit.script(net().eval()))
    DFADTrainer(teacher, net(4), SHAPE, "dfad", **SMALL).fit(1)


@pytest.mark.filterwarnings("ignore:.*an autograd kernel was not registered")
def test_a_quantized_teacher_is_distilled():
    teacher = torch.ao.quantization.quantize_dynamic(net().eval(), {nn.Linear})
    losses = DFADTrainer(teacher, net(4), SHAPE, "dfad", **SMALL).step()
    assert all(loss.isfinite() for loss in losses.values())


def distilled(seed=0):
    torch.manual_seed(seed)
    teacher, student = net(), net(4)
    DFADTrainer(teacher, student, SHAPE, **{**SMALL, "seed": seed}).fit(2)
    return student.state_dict()


def assert_same(found, expected):
    assert all(torch.equal(found[key], value) for key, value in expected.items())


def test_gradients_switched_off_around_a_run_do_not_matter():
    expected = distilled()
    with torch.no_grad():
        assert_same(distilled(), expected)
    torch.manual_seed(0)
    teacher, student = net(), net(4)
    with torch.inference_mode():
        DFADTrainer(teacher, student, SHAPE, **SMALL).fit(2)
    assert_same(student.state_dict(), expected)


def test_a_run_is_resumed_within_inference_mode_and_goes_on_without_it(tmp_path):
    settings = {"out": tmp_path, "method": "dfad", "student_ema": 0.5, **SMALL}
    teacher, student = net(), net(4)
    DFADTrainer(teacher, student, SHAPE, **settings).fit(1)
    with torch.inference_mode():
        trainer = DFADTrainer(teacher, student, SHAPE, resume=True, **settings)
    assert not any(
        tensor.is_inference()
        for state in trainer.distiller.student_optimizer.optimizer.state.values()
        for tensor in state.values()
        if isinstance(tensor, torch.Tensor)
    )
    trainer.step()


def test_a_default_device_does_not_matter():
    expected = distilled()
    torch.manual_seed(0)
    teacher, student = net(), net(4)
    torch.set_default_device("meta")
    try:
        DFADTrainer(teacher, student, SHAPE, **SMALL).fit(2)
    finally:
        torch.set_default_device(None)
    assert_same(student.state_dict(), expected)


def test_two_trainers_in_two_threads_give_what_each_gives_alone():
    expected = [distilled(seed) for seed in (1, 2)]
    pairs = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        pairs.append((net(), net(4)))

    def distill(seed, teacher, student):
        DFADTrainer(teacher, student, SHAPE, **{**SMALL, "seed": seed}).fit(2)

    threads = [threading.Thread(target=distill, args=(seed, *pairs[seed - 1])) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for (_, student), want in zip(pairs, expected, strict=True):
        assert_same(student.state_dict(), want)


def test_a_buffer_that_is_infinite_from_the_start_is_no_divergence_and_others_are():
    teacher, student = net(), mask(4)
    trainer = DFADTrainer(teacher, student, SHAPE, "dfad", student_ema=0.9, **SMALL)
    trainer.fit(1)
    assert torch.equal(trainer.averaged_student.mask, student.mask)
    assert not trainer.distiller.trained.has_diverged()
    with torch.no_grad():
        student[1].running_mean[0] = float("inf")
    assert trainer.distiller.trained.has_diverged()


def test_a_match_at_the_first_stage_alone_is_said():
    def student():
        return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 4))

    (notice,) = DFADTrainer(net(), student(), SHAPE, "dfad-ar", **SMALL).notices
    assert notice.startswith("features are compared at the first stage only (2#0 and 1#0)")
    assert not DFADTrainer(net(), student(), SHAPE, "dfad", **SMALL).notices
    assert not DFADTrainer(net(), net(4), SHAPE, "dfad-ar", **SMALL).notices
