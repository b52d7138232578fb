import math

import pytest
import torch
import torch.nn.functional as F
from helpers import FLOATING, assert_close, expanded, transposed, unpacked

from dfad_fast.kernels import boundary_hinge, pack_signs

STAGES = ((3, 5, 4, 6), (9,), (0, 4), (2, 4097), ())


def eager(student, teacher, margin):
    s, on = student.double(), unpacked(teacher, student) if teacher.dtype == torch.uint8 else ~(teacher <= 0)
    return F.relu(margin + torch.where(on, -s, s)).square()


def stages():
    """One of each kind: strided, other dtypes, empty, of several blocks, 0-dim; two teachers packed."""
    students = [torch.randn(shape) for shape in STAGES]
    teachers = [torch.randn(shape) for shape in STAGES]
    students[0], teachers[0] = transposed(students[0]), expanded(teachers[0])
    students[1], teachers[1] = students[1].bfloat16(), teachers[1].half()
    students[3] = students[3].double()
    teachers[1] = packed(teachers[1])
    teachers[4] = packed(teachers[4])
    return students, teachers


def packed(x):
    signs = torch.full((math.ceil(x.numel() / 8),), 255, dtype=torch.uint8)
    pack_signs.pack_signs(x, signs)
    return signs


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_loss_agreement_and_signs_of_all_stages(reduction):
    students, teachers = stages()
    weights = [0.1, -2.0, 3.0, 0.7, 0.3]
    if reduction == "mean":
        weights[2] = 0.0
    out, agreement = torch.empty((), dtype=torch.float64), torch.empty(len(STAGES))
    signs = [
        None if t.dtype == torch.uint8 else torch.full((math.ceil(t.numel() / 8),), 255, dtype=torch.uint8)
        for t in teachers
    ]
    boundary_hinge.loss(students, teachers, weights, 0.3, reduction, out, agreement, signs)

    losses = [eager(s, t, 0.3) for s, t in zip(students, teachers, strict=True)]
    reduced = [x.mean() if reduction == "mean" else x.sum() for x in losses]
    want = sum(w * x for w, x in zip(weights, reduced, strict=True))
    assert_close(out, want, torch.float32)
    assert want.isnan() == (reduction == "mean")
    on = [
        unpacked(t, s) if t.dtype == torch.uint8 else ~(t <= 0)
        for s, t in zip(students, teachers, strict=True)
    ]
    shares = torch.stack([(~(s <= 0) == o).float().mean() for s, o in zip(students, on, strict=True)])
    torch.testing.assert_close(agreement, shares, equal_nan=True)
    for s, o, bits in zip(students, on, signs, strict=True):
        if bits is not None:
            assert torch.equal(unpacked(bits, s), o)

    grads = [torch.empty_like(s) for s in students]
    bits = [t if b is None else b for t, b in zip(teachers, signs, strict=True)]
    grad = torch.tensor(-1.5).half()
    boundary_hinge.gradient(grad, students, bits, weights, 0.3, reduction, grads)
    for s, o, w, got in zip(students, on, weights, grads, strict=True):
        scale = -1.5 * w / (max(s.numel(), 1) if reduction == "mean" else 1)
        want = scale * torch.where(o, -2, 2) * F.relu(0.3 + torch.where(o, -s.double(), s.double()))
        assert_close(got, want, torch.float32)


def test_more_stages_than_one_launch_takes():
    students = [torch.randn(4, n) for n in (1, 2, 5000, 4, 5, 6, 7, 8, 9, 2000, 11)]
    teachers = [torch.randn_like(s) for s in students]
    out, agreement = torch.empty(()), torch.empty(len(students))
    boundary_hinge.loss(students, teachers, [1.0] * 11, 1.0, "sum", out, agreement)
    assert_close(out, sum(eager(s, t, 1.0).sum() for s, t in zip(students, teachers, strict=True)))
    shares = [((s <= 0) == (t <= 0)).float().mean() for s, t in zip(students, teachers, strict=True)]
    torch.testing.assert_close(agreement, torch.stack(shares))


@pytest.mark.parametrize(
    ("student", "teacher"), [(a, a) for a in FLOATING] + [(torch.bfloat16, torch.float64)]
)
def test_per_element(student, teacher):
    s = torch.randn(3, 5, 4, 6).to(student, memory_format=torch.channels_last)
    t = torch.randn(3, 5, 4, 6).to(teacher)
    out = torch.empty_like(s, dtype=torch.promote_types(student, teacher))
    signs = [torch.empty(45, dtype=torch.uint8)]
    boundary_hinge.loss([s], [t], [7.0], 1.0, "none", out, None, signs)
    assert_close(out, eager(s, t, 1.0), torch.float32)
    got = torch.empty_like(s)
    grad = expanded(torch.randn(3, 5, 4, 6))
    boundary_hinge.gradient(grad, [s], signs, [7.0], 1.0, "none", [got])
    want = grad.double() * torch.where(t <= 0, 2, -2) * F.relu(1 + torch.where(t <= 0, s, -s).double())
    assert_close(got, want, torch.float32)


def test_special_values():
    s = torch.tensor([math.nan, 1.0, -1.0, 0.5, 2.0, math.inf, -math.inf, 0.0])
    t = torch.tensor([1.0, 1.0, -1.0, math.nan, 0.0, -1.0, -0.0, -1.0])
    out, signs, grad = torch.empty_like(s), [torch.empty(1, dtype=torch.uint8)], torch.empty_like(s)
    boundary_hinge.loss([s], [t], [1.0], 1.0, "none", out, None, signs)
    torch.testing.assert_close(
        out, torch.tensor([math.nan, 0, 0, 0.25, 9, math.inf, 0, 1]), equal_nan=True, rtol=0, atol=0
    )
    assert signs[0].item() == 0b00001011
    boundary_hinge.gradient(torch.full_like(s, math.inf), [s], signs, [1.0], 1.0, "none", [grad])
    want = torch.tensor([math.nan, 0, 0, -math.inf, math.inf, math.inf, 0, math.inf])
    torch.testing.assert_close(grad, want, equal_nan=True)


@pytest.mark.parametrize("dtype", FLOATING)
def test_pack_signs(dtype):
    x = torch.randn(3, 5, 4, 6).to(dtype)
    x[0, 0, 0, :3] = torch.tensor([0.0, -0.0, math.nan])
    for layout in (x, x.to(memory_format=torch.channels_last), transposed(x), x[:, :, ::2], x[:, 1:, 1:, 1:]):
        assert torch.equal(unpacked(packed(layout), layout), ~(layout <= 0))
    assert packed(x[:0]).numel() == 0
    assert packed(torch.ones(5000))[-1].item() == 255
    assert packed(torch.ones(4097)).tolist() == [255] * 512 + [1]
