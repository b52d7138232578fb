"""What is said of the networks and sizes before a run is set up."""

import copy
import warnings

import pytest
import torch
from torch import nn

from dfad_fast import DFADTrainer
from dfad_fast.engine.preflight import refuse_unaffordable
from dfad_fast.errors import DFADFastWarning, UsageError

SHAPE = (3, 8, 8)


def net(width=4, end=()):
    return nn.Sequential(
        nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.Flatten(), nn.Linear(36 * width, 4), *end
    )


def trainer(teacher, student=None, method="dfad", **options):
    settings = {"latent_dim": 4, "batch_size": 4, **options}
    return DFADTrainer(teacher, student or net(2), settings.pop("image_shape", SHAPE), method, **settings)


def with_nan(network, tensor):
    with torch.no_grad():
        tensor(network)[0] = float("nan")
    return network


def shared():
    teacher = net()
    student = copy.deepcopy(teacher)
    student[4] = teacher[4]
    return teacher, student


def in_inference_mode():
    with torch.inference_mode():
        return net()


def with_int8():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated in torch
        return torch.ao.quantization.quantize_dynamic(net(), {nn.Linear})


@pytest.mark.filterwarnings("ignore:.*an autograd kernel was not registered")
@pytest.mark.parametrize(
    ("pair", "text"),
    [
        (lambda: (net(),) * 2, "teacher and student are the same network: pass copy.deepcopy"),
        (shared, "the student's 4.weight is the teacher's 4.weight"),
        (lambda: (with_nan(net(), lambda n: n[0].weight), net()), r"the teacher's 0\.weight holds NaN"),
        (
            lambda: (with_nan(net(), lambda n: n[1].running_var), net()),
            r"the teacher's 1\.running_var holds NaN",
        ),
        (lambda: (net(), with_nan(net(), lambda n: n[4].bias)), r"the student's 4\.bias holds NaN"),
        (lambda: (in_inference_mode(), net()), "the teacher was built inside torch.inference_mode"),
        (lambda: (net().to("meta"), net()), r"0\.weight is on the meta device, without values"),
        (lambda: (net(end=[Log()]), net()), "the teacher returns NaN or infinite logits"),
        (lambda: (net(end=[nn.Linear(4, 1)]), net()), "the teacher answers with 1 logit"),
        (lambda: (net(), WithoutGradient()), "no gradient reaches the student's parameters"),
        (lambda: (net(), with_int8()), "no gradient reaches the student's parameters"),
    ],
)
def test_networks_that_cannot_be_distilled_are_refused(pair, text, tmp_path):
    with pytest.raises(UsageError, match=text):
        trainer(*pair(), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


class Log(nn.Module):
    def forward(self, x):
        return (x - x.amax(1, keepdim=True) - 1).log()


def test_what_no_memory_holds_is_refused_at_once():
    with pytest.raises(UsageError, match=r"batches of 1,000,000 images \[3, 4096, 4096\] .* GiB are free"):
        trainer(net(), batch_size=10**6, image_shape=(3, 4096, 4096))
    with pytest.raises(UsageError, match=r"from 1,000,000 numbers each need at least .* GiB .*latent_dim"):
        refuse_unaffordable((3, 4096, 4096), 2, 10**6, torch.device("cpu"), torch.float32, own_generator=True)


def test_what_memory_may_hold_is_not_refused():
    refuse_unaffordable((3, 224, 224), 64, 100, torch.device("cpu"), torch.float32, own_generator=True)


@pytest.mark.parametrize(
    ("end", "text"),
    [
        (nn.Softmax(1), "the teacher returns probabilities, not logits"),
        (nn.LogSoftmax(1), "the teacher returns log-probabilities"),
        (nn.Sigmoid(), "the teacher returns sigmoids, not logits, .*: remove the sigmoid"),
    ],
)
def test_a_softmax_at_the_teachers_end_is_said(end, text):
    with pytest.warns(DFADFastWarning, match=text):
        trainer(net(end=[end]))


class WithoutGradient(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = net()

    @torch.no_grad()
    def forward(self, x):
        return self.body(x)


def test_a_teacher_that_passes_no_gradient_is_said_or_refused():
    with pytest.warns(DFADFastWarning, match="no gradient flows through the teacher"):
        trainer(WithoutGradient()).step()
    with pytest.raises(UsageError, match=r"no gradient flows .* the generator learns from nothing else"):
        trainer(WithoutGradient(), generator_terms="one_hot")


def test_usual_networks_pass_without_a_word(recwarn):
    trainer(net()).step()
    assert not [w for w in recwarn if issubclass(w.category, DFADFastWarning)]
