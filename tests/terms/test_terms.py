import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dfad_fast.errors import UsageError
from dfad_fast.models.batch_norm import LayerStatistics
from dfad_fast.terms import (
    L1,
    ActivationBoundary,
    BatchNormStatistics,
    Probe,
    VirtualInterpolation,
    Weighted,
)


def make_probe(**parts):
    images = torch.randn(16, 3, 4, 4)
    nonlinear = torch.randn(48, 5)
    defaults = {
        "images": images,
        "student": torch.randn(16, 5, requires_grad=True),
        "teacher": torch.tanh(images.flatten(1) @ nonlinear),
        "ask_teacher": lambda x: torch.tanh(x.flatten(1) @ nonlinear),
    }
    return Probe(**{**defaults, **parts})


def ask_student(x):
    return torch.sin(x.flatten(1)[:, :5])


def ask(term, probe, seed=0):
    """The term on the probe, with its random numbers drawn and its images shown to the student, as a step does it."""
    draws = tuple(
        torch.as_tensor(x).float() if x.dtype.kind == "f" else torch.as_tensor(x)
        for x in term.draw(np.random.default_rng(seed), len(probe.images))
    )
    images = term.virtual_images(probe.images, draws)
    return term(replace(probe, draws=draws, virtual_images=images, virtual_student=ask_student(images)))


def test_l1_is_the_mean_over_batch_and_classes():
    probe = make_probe()
    expected = sum(
        abs(s - t)
        for row, other in zip(probe.student.tolist(), probe.teacher.tolist(), strict=True)
        for s, t in zip(row, other, strict=True)
    ) / (16 * 5)
    assert L1()(probe).item() == pytest.approx(expected, rel=1e-5)


def test_boundary_is_the_mean_over_stages_of_means_over_elements():
    student = [torch.randn(4, 2, 3, 3, requires_grad=True), torch.randn(4, 7, requires_grad=True)]
    teacher = [torch.randn(4, 2, 3, 3, requires_grad=True), torch.randn(4, 7, requires_grad=True)]
    probe = make_probe(student_features=student, teacher_features=teacher)
    expected = torch.stack(
        [
            torch.where(t <= 0, F.relu(0.5 + s) ** 2, F.relu(0.5 - s) ** 2).mean()
            for s, t in zip(student, teacher, strict=True)
        ]
    ).mean()
    loss = ActivationBoundary(margin=0.5)(probe)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert all(s.grad is not None for s in student)
    assert all(t.grad is None for t in teacher)


@pytest.mark.parametrize("labels", ["mixed", "teacher"])
@pytest.mark.parametrize("per_image", [True, False])
def test_virtual_interpolation_mixes_as_the_paper_says(labels, per_image):
    probe = make_probe()
    draws = np.random.default_rng(0)
    lam = torch.as_tensor(draws.beta(0.7, 0.7, size=16 if per_image else ())).float().reshape(-1, 1)
    perm = torch.from_numpy(draws.permutation(16))
    image_lam = lam.reshape(-1, 1, 1, 1)
    images = image_lam * probe.images + (1 - image_lam) * probe.images[perm]
    mixed = lam * probe.teacher + (1 - lam) * probe.teacher[perm]
    expected = F.l1_loss(ask_student(images), mixed if labels == "mixed" else probe.ask_teacher(images))
    loss = ask(VirtualInterpolation(alpha=0.7, labels=labels, per_image=per_image), probe)
    torch.testing.assert_close(loss, expected)


def test_the_two_kinds_of_virtual_label_differ():
    losses = {
        kind: ask(VirtualInterpolation(labels=kind), make_probe()).item() for kind in ("mixed", "teacher")
    }
    assert losses["mixed"] != pytest.approx(losses["teacher"])


def test_batch_norm_statistics_are_sums_of_distances():
    layers = [
        LayerStatistics(
            mean=torch.tensor([1.0, 2.0]),
            variance=torch.tensor([1.0, 1.0]),
            running_mean=torch.tensor([4.0, 6.0]),
            running_variance=torch.tensor([1.0, 2.0]),
        ),
        LayerStatistics(*(torch.tensor([value]) for value in (0.0, 3.0, 2.0, 3.0))),
    ]
    assert BatchNormStatistics()(make_probe(statistics=layers)).item() == pytest.approx(5 + 1 + 2 + 0)


def test_batch_norm_statistics_that_agree_have_a_finite_gradient():
    mean = torch.zeros(3, requires_grad=True)
    layer = LayerStatistics(mean, torch.ones(3), torch.zeros(3), torch.ones(3))
    BatchNormStatistics()(make_probe(statistics=[layer])).backward()
    assert torch.equal(mean.grad, torch.zeros(3))


@pytest.mark.parametrize(
    ("decay", "expected"),
    [("constant", [2, 2, 2]), ("linear", [2, 1, 0]), ("cosine", [2, 1, 0])],
)
def test_weights_fade_over_the_run(decay, expected):
    row = Weighted(2.0, L1(), decay)
    assert [row.weight_at(p) for p in (0.0, 0.5, 1.0)] == pytest.approx(expected)
    if decay == "cosine":
        assert row.weight_at(0.25) == pytest.approx(1 + math.sqrt(0.5))


@pytest.mark.parametrize(
    ("settings", "message"), [({"alpha": 0}, "alpha must be > 0"), ({"labels": "mixd"}, "mixed")]
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(UsageError, match=message):
        VirtualInterpolation(**settings)
