import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dfad_fast.errors import UsageError
from dfad_fast.models.reading.batch_norm import LayerStatistics
from dfad_fast.terms import (
    JS,
    KL,
    L1,
    TERMS,
    ActivationBoundary,
    ActivationMagnitude,
    AttentionTransfer,
    BatchNormKL,
    BatchNormStatistics,
    BoundaryCrossing,
    ClassBalance,
    Contrast,
    Disagreement,
    Entropy,
    FactorTransfer,
    Hint,
    ImageNorm,
    Label,
    LogL1,
    ManifoldMixup,
    MarginReLU,
    OneHot,
    Probe,
    TotalVariation,
    VirtualInterpolation,
    Weighted,
    create_module,
)


def make_probe(**parts):
    images = torch.randn(16, 3, 4, 4)
    nonlinear = torch.randn(48, 5)
    defaults = {
        "images": images,
        "student": torch.randn(16, 5, requires_grad=True),
        "teacher": torch.tanh(images.flatten(1) @ nonlinear),
        "ask_teacher": lambda x: torch.tanh(x.flatten(1) @ nonlinear),
        "ask_student": lambda x, path, change: ask_student(change(x)),
    }
    return Probe(**{**defaults, **parts})


MASKED = torch.tensor([0.0, -math.inf, 0.0, 0.0, 0.0])


@pytest.mark.parametrize(
    "term", [Entropy(), ClassBalance(), OneHot(), JS(), KL(), Disagreement()], ids=lambda term: term.name
)
@pytest.mark.parametrize("masked", ["a class", "a class in some images", "a class for the student too"])
def test_a_class_that_is_masked_counts_as_if_it_were_not_there(term, masked):
    mask = (
        MASKED if masked != "a class in some images" else torch.stack([MASKED, 0 * MASKED.clamp(min=0)] * 8)
    )
    answers = torch.randn(2, 16, 5)
    teacher, student = (x.clone().requires_grad_() for x in answers)
    masked_student = student + mask if "student" in masked else student
    value = term(make_probe(teacher=teacher + mask, student=masked_student))
    value.backward()
    gradients = [x.grad for x in (teacher, student) if x.grad is not None]
    assert all(gradient.isfinite().all() for gradient in gradients)
    large = 60.0 * mask.clamp(min=-1)
    near_teacher, near_student = (x.clone().requires_grad_() for x in answers)
    near = term(
        make_probe(
            teacher=near_teacher + large,
            student=near_student + large if "student" in masked else near_student,
        )
    )
    near.backward()
    torch.testing.assert_close(value, near)
    expected = [x.grad for x in (near_teacher, near_student) if x.grad is not None]
    torch.testing.assert_close(gradients, expected)


def test_numbers_that_would_be_trained_by_nothing_are_refused():
    learned = torch.tensor(2.0, requires_grad=True)
    for row in (
        lambda: Weighted(1.0, KL(temperature=learned)),
        lambda: Weighted(1.0, ActivationBoundary(margin=learned)),
        lambda: Weighted(learned, L1()),
    ):
        with pytest.raises(UsageError, match="requires a gradient, and nothing would train it"):
            row()
    assert Weighted(1.0, KL(temperature=np.float32(2))).term(make_probe()).isfinite()


def ask_student(x):
    return torch.sin(x.flatten(1)[:, :5])


def ask(term, probe, seed=0):
    """The term on the probe, with its random numbers drawn and its images shown to the student, as a step does it."""
    draws = tuple(
        torch.as_tensor(x).float() if x.dtype.kind == "f" else torch.as_tensor(x)
        for x in term.draw(np.random.default_rng(seed), len(probe.images))
    )
    stages = [f.shape[1:] for f in probe.student_features]
    module = term.module(stages, tuple(probe.images.shape[1:])) or probe.module
    draws = term.prepare(probe.images, draws, module)
    images = term.virtual_images(probe.images, draws)
    return term(
        replace(
            probe,
            draws=draws,
            module=module,
            virtual_images=images,
            virtual_student=None if images is None else ask_student(images),
        )
    )


def test_l1_is_the_mean_over_batch_and_classes():
    probe = make_probe()
    expected = sum(
        abs(s - t)
        for row, other in zip(probe.student.tolist(), probe.teacher.tolist(), strict=True)
        for s, t in zip(row, other, strict=True)
    ) / (16 * 5)
    assert L1()(probe).item() == pytest.approx(expected, rel=1e-5)
    assert LogL1()(probe).item() == pytest.approx(math.log(1 + expected), rel=1e-5)


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


@pytest.mark.parametrize(
    ("margins", "margin"), [("constant", 0.8), ("linear", 0.6), ("cosine", 0.8 * 0.85355339), ("early", 0.8)]
)
def test_a_boundarys_margin_follows_its_schedule(margins, margin):
    shapes = [(4, 2, 3, 3), (4, 7)]
    probe = make_probe(student_features=features(*shapes), teacher_features=features(*shapes), progress=0.25)
    term = ActivationBoundary(margin=0.8, margins=margins)
    assert term.reads_progress == (margins != "constant")
    torch.testing.assert_close(term(probe), ActivationBoundary(margin=margin)(probe))
    late = term(replace(probe, progress=0.75))
    if margins == "early":
        torch.testing.assert_close(late, ActivationBoundary(margin=0.0)(probe))
    with pytest.raises(UsageError, match="did you mean 'linear'"):
        ActivationBoundary(margins="lineer")


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
    ("settings", "message"),
    [
        ({"alpha": 0}, "alpha must be > 0"),
        ({"labels": "mixd"}, "mixed"),
        ({"policy": "lerned"}, "unknown mixing policy 'lerned': did you mean 'learned'"),
        ({"policy": "learned", "intrusion": 0.0}, "virtual: intrusion must be > 0, got 0.0"),
        ({"policy": "learned", "policy_lr": float("nan")}, "virtual: policy_lr must be > 0, got nan"),
        ({"policy": "learned", "alpha": 0.5}, "alpha does nothing with policy=learned: leave it out"),
        ({"policy": "learned", "per_image": False}, "per_image does nothing with policy=learned"),
        ({"intrusion": 0.5}, "intrusion does nothing with policy=beta: leave it out"),
        ({"policy_lr": 0.1}, "policy_lr does nothing with policy=beta"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(UsageError, match=message):
        VirtualInterpolation(**settings)


def probabilities(row, temperature=1.0):
    exponentials = [math.exp(x / temperature) for x in row]
    return [e / sum(exponentials) for e in exponentials]


def divergence(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def answers(probe, temperature=1.0):
    """Pairs of the student's and the teacher's probabilities, an image after the other."""
    pairs = zip(probe.student.tolist(), probe.teacher.tolist(), strict=True)
    return [(probabilities(s, temperature), probabilities(t, temperature)) for s, t in pairs]


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_kl_in_both_directions_and_reductions(temperature):
    probe = make_probe()
    forward = sum(divergence(t, s) for s, t in answers(probe, temperature)) / 16
    reverse = sum(divergence(s, t) for s, t in answers(probe, temperature)) / 16
    assert KL(temperature)(probe).item() == pytest.approx(forward, rel=1e-5)
    assert KL(temperature, "reverse")(probe).item() == pytest.approx(reverse, rel=1e-5)
    assert KL(temperature, reduction="mean")(probe).item() == pytest.approx(forward / 5, rel=1e-5)


def test_js_is_the_mean_divergence_from_the_middle():
    probe = make_probe()
    expected = 0.0
    for s, t in answers(probe, 3.0):
        middle = [(a + b) / 2 for a, b in zip(s, t, strict=True)]
        expected += (divergence(s, middle) + divergence(t, middle)) / 2 / 16
    assert JS()(probe).item() == pytest.approx(expected, rel=1e-4)
    certain = torch.tensor([[50.0, 0.0], [0.0, 50.0]])
    assert JS(1.0)(make_probe(student=certain, teacher=certain.flip(1))).item() == pytest.approx(math.log(2))


def test_one_hot_entropy_and_balance_look_at_the_teacher():
    probe = make_probe(teacher=torch.randn(16, 5, requires_grad=True))
    rows = [t for _, t in answers(probe)]
    mean = [sum(column) / 16 for column in zip(*rows, strict=True)]
    assert OneHot()(probe).item() == pytest.approx(sum(-math.log(max(row)) for row in rows) / 16, rel=1e-5)
    entropy = sum(-sum(p * math.log(p) for p in row) for row in rows) / 16
    assert Entropy()(probe).item() == pytest.approx(entropy, rel=1e-5)
    assert ClassBalance()(probe).item() == pytest.approx(sum(p * math.log(p) for p in mean), rel=1e-5)
    uniform = make_probe(teacher=100 * torch.eye(5).repeat(3, 1))
    assert ClassBalance()(uniform).item() == pytest.approx(-math.log(5), rel=1e-5)


@pytest.mark.parametrize("term", [OneHot(), Entropy(), ClassBalance(), KL(), JS()], ids=str)
def test_a_teacher_that_is_very_sure_leaves_gradients_finite(term):
    teacher = torch.zeros(4, 5)
    teacher[:, 0] = 300.0
    probe = make_probe(student=torch.randn(4, 5), teacher=teacher.requires_grad_())
    assert torch.autograd.grad(term(probe), teacher)[0].isfinite().all()


def features(*shapes, grad=True):
    return [torch.randn(shape, requires_grad=grad) for shape in shapes]


def test_attention_compares_where_activations_are():
    shapes = [(4, 3, 2, 5), (4, 6), (4, 8, 2, 2)]
    probe = make_probe(student_features=features(*shapes), teacher_features=features(*shapes))
    expected = 0.0
    for s, t in zip(probe.student_features, probe.teacher_features, strict=True):
        if s.dim() == 2:
            continue
        maps = []
        for f in (s, t):
            map_ = torch.zeros(4, f.shape[2] * f.shape[3])
            for b in range(4):
                for i, position in enumerate(f[b].flatten(1).t()):
                    map_[b, i] = sum(max(x, 0.0) ** 2 for x in position.tolist()) / f.shape[1]
                map_[b] /= math.sqrt(sum(x * x for x in map_[b].tolist()))
            maps.append(map_)
        expected += (maps[0] - maps[1]).square().mean().item()
    loss = AttentionTransfer()(probe)
    assert loss.item() == pytest.approx(expected, rel=1e-4)
    assert all(g is None for g in torch.autograd.grad(loss, probe.teacher_features, allow_unused=True))
    AttentionTransfer().check([(6,), (3, 2, 2)])
    with pytest.raises(UsageError, match="none of the matching stages has positions"):
        AttentionTransfer().check([(6,)])


def test_a_hint_is_one_stages_mean_squared_error():
    shapes = [(4, 3, 2, 2), (4, 6)]
    probe = make_probe(student_features=features(*shapes), teacher_features=features(*shapes))
    for stage in (0, 1, -1, -2):
        s, t = probe.student_features[stage], probe.teacher_features[stage]
        assert Hint(stage)(probe).item() == pytest.approx((s - t).square().mean().item(), rel=1e-5)
    for stage in (2, -3):
        with pytest.raises(
            UsageError, match=f"2 stages of the networks match, but there is no stage {stage}"
        ):
            Hint(stage).check(shapes)


def test_a_terms_module_of_the_former_signature_still_works():
    class Former(L1):
        def module(self, stages):
            return nn.Linear(len(stages), 1)

    with pytest.warns(FutureWarning, match=r"Former\.module\(self, stages\) is deprecated"):
        assert create_module(Former(), [(3,), (4,)], (1, 8, 8)).in_features == 2
    assert create_module(L1(), [], (1, 8, 8)) is None


def test_factor_transfer_compares_unit_factors_and_trains_the_paraphraser():
    torch.manual_seed(0)
    shapes = [(4, 6, 2, 2), (4, 5)]
    term = FactorTransfer(stage=0)
    module = term.module([shape[1:] for shape in shapes], (1, 8, 8))
    probe = make_probe(student_features=features(*shapes), teacher_features=features(*shapes), module=module)
    student, teacher = probe.student_features[0], probe.teacher_features[0]
    loss = term(probe)
    module_again = term.module([shape[1:] for shape in shapes], (1, 8, 8))
    module_again.load_state_dict(module.state_dict())
    theirs, ours = module_again.encoder(teacher), module_again.translator(student)
    assert theirs.shape == ours.shape == (4, 3, 2, 2)
    distance = 0.0
    for t, s in zip(theirs.flatten(1).tolist(), ours.flatten(1).tolist(), strict=True):
        norms = [math.sqrt(sum(x * x for x in of)) for of in (t, s)]
        distance += sum(abs(a / norms[0] - b / norms[1]) for a, b in zip(t, s, strict=True)) / (4 * 12)
    restored = (module_again.decoder(theirs) - teacher).square().mean().item()
    assert loss.item() == pytest.approx(distance + restored, rel=1e-4)
    # The distance moves the student and its translator only, what is restored the paraphraser only.
    loss.backward()
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None
    (alone,) = torch.autograd.grad(
        (module_again.decoder(module_again.encoder(teacher.detach())) - teacher.detach()).square().mean(),
        module_again.encoder[0].weight,
    )
    torch.testing.assert_close(module.encoder[0].weight.grad, alone, rtol=1e-4, atol=1e-7)
    with pytest.raises(UsageError, match=r"expected features \[C, H, W\] at stage 1, got \[5\]"):
        FactorTransfer(stage=1).check([shape[1:] for shape in shapes])
    with pytest.raises(UsageError, match="there is no stage 2"):
        FactorTransfer(stage=2).check([shape[1:] for shape in shapes])
    with pytest.raises(UsageError, match="rate must be > 0"):
        FactorTransfer(rate=0.0)


def test_manifold_mixup_mixes_at_its_stage_and_the_teachers_answers():
    asked = []

    def through(x, path, change):
        asked.append(path)
        return ask_student(change(x))

    probe = make_probe(ask_student=through)
    term = ManifoldMixup("layer", alpha=2.0)
    lam, perm = term.draw(np.random.default_rng(0), 16)
    expected = 0.0
    for i, (share, other) in enumerate(zip(lam.tolist(), perm.tolist(), strict=True)):
        mixed = share * probe.images[i] + (1 - share) * probe.images[other]
        label = share * probe.teacher[i] + (1 - share) * probe.teacher[other]
        expected += (ask_student(mixed[None])[0] - label).abs().mean().item() / 16
    assert ask(term, probe).item() == pytest.approx(expected, rel=1e-4)
    assert asked == ["layer"]
    with pytest.raises(UsageError, match="alpha must be > 0"):
        ManifoldMixup("layer", alpha=0.0)
    assert term.student_stage == "layer"


def test_labels_are_what_the_generator_was_told():
    probe = make_probe(labels=torch.randint(5, (16,)))
    p = probe.teacher.softmax(1)
    expected = -sum(math.log(p[i, label]) for i, label in enumerate(probe.labels.tolist())) / 16
    assert Label()(probe).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("term", [Disagreement(), Disagreement("l1"), Disagreement(temperature=3.0)], ids=str)
def test_disagreement_counts_where_both_give_the_same_class(term):
    student, teacher = torch.randn(64, 5), torch.randn(64, 5)
    student = (0.7 * student + teacher).requires_grad_()
    value = term(make_probe(student=student, teacher=teacher))
    value.backward()
    total, counted = 0.0, 0
    for s, t, gradient in zip(student.detach(), teacher, student.grad, strict=True):
        same = int(s.argmax()) == int(t.argmax())
        counted += same
        assert bool(gradient.any()) == same
        log_q, log_p = ((x / term.temperature).log_softmax(0).tolist() for x in (s, t))
        kl = sum(math.exp(p) * (p - q) for p, q in zip(log_p, log_q, strict=True))
        total += same * (kl if term.measure == "kl" else float((s - t).abs().mean()))
    assert 10 < counted < 60
    assert value.item() == pytest.approx(total / 64, rel=1e-4)


def test_disagreement_refuses_what_it_does_not_know():
    with pytest.raises(UsageError, match="measure of disagreement 'js'"):
        Disagreement("js")
    with pytest.raises(UsageError, match="disagreement: temperature must be > 0, got 0"):
        Disagreement(temperature=0.0)


@pytest.mark.parametrize("former", [0, 7])
def test_contrast_tells_each_image_from_all_others(former):
    crops, wholes = (F.normalize(torch.randn(16 + former, 8), dim=1).requires_grad_() for _ in range(2))
    value = Contrast(temperature=0.5)(make_probe(contrast=(crops, wholes)))
    value.backward()
    assert wholes.grad is None
    costs = []
    for i, crop in enumerate(crops):
        similar = [math.exp((crop @ whole).item() / 0.5) for whole in wholes]
        costs.append(-math.log(similar[i] / sum(similar)))
    expected = sum(costs[:16]) / 16 + (sum(costs[16:]) / former if former else 0.0)
    assert value.item() == pytest.approx(expected, rel=1e-4)
    with pytest.raises(UsageError, match="contrast: temperature must be > 0, got -1"):
        Contrast(temperature=-1.0)


def test_margin_relu_forgives_what_is_below_a_target_that_is_not_positive():
    shapes = [(5, 3, 2, 2), (5, 4)]
    probe = make_probe(student_features=features(*shapes), teacher_features=features(*shapes))
    stages = []
    for s, t in zip(probe.student_features, probe.teacher_features, strict=True):
        costs = []
        for c in range(s.shape[1]):
            ours, theirs = s[:, c].flatten().tolist(), t[:, c].flatten().tolist()
            negative = [x for x in theirs if x < 0]
            margin = sum(negative) / len(negative) if negative else 0.0
            for a, b in zip(ours, theirs, strict=True):
                target = max(b, margin)
                costs.append(0.0 if a <= target <= 0 else (a - target) ** 2)
        stages.append(sum(costs) / len(costs))
    assert MarginReLU()(probe).item() == pytest.approx(sum(stages) / 2, rel=1e-4)


def test_crossing_is_bounded_and_0_for_the_teacher_itself():
    probe = make_probe(student_features=features((4, 3, 2, 2)), teacher_features=features((4, 3, 2, 2)))
    pairs = zip(
        probe.student_features[0].flatten().tolist(),
        probe.teacher_features[0].flatten().tolist(),
        strict=True,
    )
    expected = [min(max(-s if t > 0 else s, 0.0), 0.7) for s, t in pairs]
    assert BoundaryCrossing(0.7)(probe).item() == pytest.approx(sum(expected) / 48, rel=1e-5)
    assert BoundaryCrossing()(replace(probe, student_features=probe.teacher_features)).item() == 0
    far = [-1000 * t for t in probe.teacher_features]
    assert 0.9 < BoundaryCrossing()(replace(probe, student_features=far)).item() <= 1


def test_activation_is_the_mean_of_the_last_stages_positive_part():
    (last,) = features((4, 6))
    probe = make_probe(last_stage=last)
    values = last.flatten().tolist()
    assert ActivationMagnitude()(probe).item() == pytest.approx(
        sum(max(v, 0.0) for v in values) / 24, rel=1e-5
    )


def test_batch_norm_kl_is_the_divergence_of_normal_distributions():
    made, real = (torch.distributions.Normal(torch.randn(4), torch.rand(4) + 0.5) for _ in range(2))
    layer = LayerStatistics(made.mean, made.variance, real.mean, real.variance)
    expected = torch.distributions.kl_divergence(made, real).sum()
    got = BatchNormKL(eps=0.0)(make_probe(statistics=[layer, layer]))
    assert got.item() == pytest.approx(2 * expected.item(), rel=1e-4)
    flat = LayerStatistics(torch.zeros(4), torch.zeros(4), torch.zeros(4), torch.zeros(4))
    assert BatchNormKL()(make_probe(statistics=[flat])).item() == 0
    with pytest.raises(UsageError, match="none of the teacher's batch norm layers ran"):
        BatchNormKL()(make_probe())


def test_image_priors():
    probe = make_probe()
    sums = dict.fromkeys([(0, 1), (1, 0), (1, 1), (1, -1)], 0.0)
    for image in probe.images.flatten(0, 1).tolist():
        for (down, right), _ in sums.items():
            for y in range(4):
                for x in range(4):
                    if 0 <= y + down < 4 and 0 <= x + right < 4:
                        sums[down, right] += (image[y][x] - image[y + down][x + right]) ** 2
    expected = sum(math.sqrt(s) for s in sums.values())
    assert TotalVariation()(probe).item() == pytest.approx(expected, rel=1e-5)
    norms = [math.sqrt(sum(v * v for v in image)) for image in probe.images.flatten(1).tolist()]
    assert ImageNorm()(probe).item() == pytest.approx(sum(norms) / 16, rel=1e-5)


def test_boundary_with_the_published_weights_of_stages():
    shapes = [(4, 2, 3, 3), (4, 8, 2, 2), (4, 7)]
    probe = make_probe(student_features=features(*shapes), teacher_features=features(*shapes))
    expected = 0.0
    for depth, (s, t) in enumerate(
        zip(probe.student_features[::-1], probe.teacher_features[::-1], strict=True)
    ):
        hinge = torch.where(t <= 0, (1 + s).relu().square(), (1 - s).relu().square())
        expected += hinge.sum().item() / 4 / 2**depth
    assert ActivationBoundary(stages="published")(probe).item() == pytest.approx(expected, rel=1e-5)


def test_virtual_labels_compared_as_probabilities():
    probe = make_probe()
    term = VirtualInterpolation(distance="softmax-mse")
    lam, perm = (torch.as_tensor(x) for x in term.draw(np.random.default_rng(0), 16))
    lam = lam.float()[:, None]
    labels = lam * probe.teacher + (1 - lam) * probe.teacher[perm]
    images = lam[..., None, None] * probe.images + (1 - lam[..., None, None]) * probe.images[perm]
    expected = (ask_student(images).softmax(1) - labels.softmax(1)).square().mean()
    assert ask(term, probe).item() == pytest.approx(expected.item(), rel=1e-4)


def test_early_weights_end_in_the_middle():
    row = Weighted(0.3, L1(), "early")
    assert [row.weight_at(p) for p in (0.0, 0.49, 0.5, 1.0)] == [0.3, 0.3, 0.0, 0.0]


@pytest.mark.parametrize("name", TERMS)
def test_every_term_is_a_scalar_that_gradients_flow_through(name):
    shapes = [(16, 3, 2, 2), (16, 8, 2, 2)]
    images = torch.randn(16, 3, 4, 4, requires_grad=True)
    moments = [torch.rand(4, requires_grad=True) for _ in range(4)]
    probe = make_probe(
        images=images,
        teacher=torch.randn(16, 5, requires_grad=True),
        student_features=features(*shapes),
        teacher_features=features(*shapes),
        statistics=[LayerStatistics(*moments)],
        last_stage=torch.randn(16, 6, requires_grad=True),
        attention=[torch.randn(16, 6, 2, 2, requires_grad=True)],
        labels=torch.randint(5, (16,)),
        contrast=(torch.randn(20, 4, requires_grad=True), torch.randn(20, 4)),
        decoded=(torch.randn(16, 7), torch.randn(16, 7, requires_grad=True)),
    )
    loss = ask(TERMS[name](), probe)
    assert loss.shape == ()
    leaves = [
        images,
        probe.student,
        probe.teacher,
        *probe.student_features,
        *probe.teacher_features,
        probe.last_stage,
        *probe.attention,
        probe.contrast[0],
        probe.decoded[1],
        *moments,
    ]
    gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
    assert any(g is not None and g.abs().sum() > 0 for g in gradients)
    assert all(g is None or g.isfinite().all() for g in gradients)
