"""The estimated source: its differences are slopes, whatever the levers say."""

import copy

import pytest
import torch

from dfad_fast import BlackBoxTeacher, DFADTrainer
from dfad_fast.networks.levers import Levers
from dfad_fast.sources.estimated import EstimatedSource
from tests.small_networks import make_net

SHAPE, BATCH = (1, 8, 8), 32


def centered(logits):
    return logits - logits.mean(1, keepdim=True)


def trainer_of(network, levers, asked=lambda: None, **settings):
    def ask(images):
        asked()
        return network(images).softmax(1)

    teacher = BlackBoxTeacher(ask, 4) if settings.pop("black_box", True) else network
    torch.manual_seed(1)
    fixed = {"method": "dfme", "batch_size": BATCH, "latent_dim": 5, "speed": levers}
    return DFADTrainer(teacher, make_net(4), SHAPE, **{**fixed, **settings})


def network():
    torch.manual_seed(0)
    return make_net(6).eval()


def agreement(monkeypatch, trainer, network, is_black_box):
    """The cosine between the slopes that a step of dfme estimates and the true ones, in double precision."""
    found = {}
    estimate = EstimatedSource._estimate

    def watched(self, images, *further):
        found["gradient"] = estimate(self, images, *further).double()
        found["images"] = images.double().requires_grad_()
        found["student"] = copy.deepcopy(trainer.networks.student).double()
        return found["gradient"]

    monkeypatch.setattr(EstimatedSource, "_estimate", watched)
    trainer.step()
    images, gradient = found["images"], found["gradient"]
    answer = copy.deepcopy(network).double()(images)
    student = found["student"].eval()(images)
    apart = -(student - (centered(answer) if is_black_box else answer)).abs().mean(1)
    (exact,) = torch.autograd.grad(apart.sum(), images)
    lengths = gradient.flatten(1).norm(dim=1)
    along = (exact * gradient).flatten(1).sum(1) / lengths.clamp_min(1e-30)
    return torch.cosine_similarity(along, lengths, dim=0)


@pytest.mark.parametrize("is_black_box", [True, False])
@pytest.mark.parametrize(
    "changes", [{"precision": "bfloat16"}, {"precision": "float16"}, {"teacher_precision": "bfloat16"}, {}]
)
def test_differences_are_slopes_in_any_precision(monkeypatch, changes, is_black_box):
    own = network()
    trainer = trainer_of(own, Levers(**changes), black_box=is_black_box)
    assert [
        "the generator's steps run in float32" in line for line in trainer.notices if "steps" in line
    ] == ([True] if changes else [])
    assert agreement(monkeypatch, trainer, own, is_black_box) > 0.99


@pytest.mark.parametrize("method", ["dfme", "maze"])
def test_they_are_not_taken_in_tensor_float32(method):
    cudnn, matmul = torch.backends.cudnn.conv, torch.backends.cuda.matmul
    before = cudnn.fp32_precision, matmul.fp32_precision
    seen = []
    trainer_of(
        network(), Levers(), lambda: seen.append((cudnn.fp32_precision, matmul.fp32_precision)), method=method
    ).step()
    of_generator = 2 if method == "dfme" else 11
    assert seen[:of_generator] == [("ieee", "ieee")] * of_generator
    assert set(seen[of_generator:]) == {before}
    assert (cudnn.fp32_precision, matmul.fp32_precision) == before
