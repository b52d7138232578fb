import math

import pytest
import torch
from helpers import FLOATING, assert_close, expanded, sliced, transposed

from dfad_fast.kernels import interpolated, mixing

BATCH = 6


def lams(dtype=torch.float32):
    """Per sample with a stride, a scalar of the device (here also with a dimension's stride 0), one on the host."""
    per_sample = torch.rand(BATCH, 2).to(dtype)[:, 0]
    return [per_sample, torch.tensor([0.3], dtype=dtype).expand(BATCH), torch.tensor(0.3, dtype=dtype)]


def mixed(x, lam, perm):
    weight = lam.double().expand(BATCH).reshape(BATCH, *[1] * (x.dim() - 1))
    return weight * x + (1 - weight) * x[perm]


@pytest.mark.parametrize(
    ("dtype", "lam"), [(d, i) for i, d in enumerate((*FLOATING, torch.float32, torch.float64))]
)
def test_mixtures_and_gradients(dtype, lam):
    perm, lam = torch.randperm(BATCH), lams(dtype)[lam % 3]
    xs = [
        torch.randn(BATCH, 3, 4, 5).to(dtype, memory_format=torch.channels_last),
        sliced(torch.randn(BATCH, 10)),
        torch.randn(BATCH, 1500).half(),
        torch.randn(BATCH, 0),
        transposed(torch.randn(BATCH, 7, 3).bfloat16()),
        torch.randn(BATCH),
    ]
    outs = [torch.empty_like(x) for x in xs]
    mixing.mix(xs, lam, perm, outs)
    for x, out in zip(xs, outs, strict=True):
        assert_close(
            out, mixed(x.double(), lam, perm), *([] if x.dtype == torch.float64 else [torch.float32])
        )

    grads = [expanded(x) if x.dim() > 1 else x for x in xs]
    outs = [torch.empty_like(g) for g in grads]
    mixing.gradient(grads, lam, perm, outs)
    for g, out in zip(grads, outs, strict=True):
        leaf = torch.zeros(g.shape, dtype=torch.float64, requires_grad=True)
        mixed(leaf, lam, perm).backward(g.double())
        assert_close(out, leaf.grad, *([] if g.dtype == torch.float64 else [torch.float32]))


def test_more_tensors_than_one_launch_takes():
    xs = [torch.randn(BATCH, n) for n in range(1, 11)]
    perm, lam = torch.randperm(BATCH), torch.rand(BATCH)
    outs = [torch.empty_like(x) for x in xs]
    mixing.mix(xs, lam, perm, outs)
    for x, out in zip(xs, outs, strict=True):
        assert_close(out, mixed(x.double(), lam, perm))


def test_an_index_out_of_range_gives_nan_rows():
    x, lam = torch.randn(4, 3), torch.tensor(0.5)
    perm = torch.tensor([1, 4, -1, 0])
    out = torch.empty_like(x)
    mixing.mix([x], lam, perm, [out])
    assert out.isnan().all(1).tolist() == [False, True, True, False]
    mixing.gradient([x], lam, perm, [out])  # nothing is sent to rows 2 and 3
    assert out.isnan().all(1).tolist() == [False, False, True, True]
    loss = torch.empty(4, 3)
    interpolated.loss(x, x, lam, perm, "none", loss)
    assert loss.isnan().all(1).tolist() == [False, True, True, False]
    gs, gt = torch.empty_like(x), torch.empty_like(x)
    interpolated.gradient(torch.tensor(1.0), x, x, lam, perm, "sum", gs, gt)
    assert gs.isnan().all(1).tolist() == [False, True, True, False]
    assert gt.isnan().all(1).tolist() == [False, True, True, True]


@pytest.mark.parametrize(("student", "teacher"), [(a, a) for a in FLOATING] + [(torch.half, torch.bfloat16)])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_interpolated(student, teacher, reduction):
    perm = torch.randperm(BATCH)
    for lam, shape in zip(lams(), [(BATCH, 10), (BATCH, 3, 200), (BATCH,)], strict=True):
        s, t = torch.randn(shape).to(student), torch.randn(shape).to(teacher)
        if len(shape) == 3:
            s, t = transposed(s), sliced(t)
        dtype = torch.promote_types(student, teacher)
        out = torch.empty_like(s, dtype=dtype) if reduction == "none" else torch.empty((), dtype=dtype)
        interpolated.loss(s, t, lam, perm, reduction, out)
        grad = (
            torch.randn(shape[::-1]).permute(*range(len(shape))[::-1])
            if reduction == "none"
            else torch.tensor(0.3)
        )
        gs, gt = torch.empty_like(s), torch.empty_like(t)
        interpolated.gradient(grad, s, t, lam, perm, reduction, gs, gt)

        ds, dt = s.double().requires_grad_(), t.double().requires_grad_()
        each = (ds - mixed(dt, lam, perm)).abs()
        want = {"mean": torch.mean, "sum": torch.sum, "none": lambda x: x}[reduction](each)
        want.backward(grad.double())
        assert_close(out, want.detach(), torch.float32)
        assert_close(gs, ds.grad, torch.float32)
        assert_close(gt, dt.grad, torch.float32)
        for wanted in ((True, False), (False, True)) if len(shape) == 2 else ():
            outs = [torch.empty_like(x) if w else None for x, w in zip((s, t), wanted, strict=True)]
            interpolated.gradient(grad, s, t, lam, perm, reduction, *outs)
            for alone, together in zip(outs, (gs, gt), strict=True):
                assert alone is None or torch.equal(alone, together)


@pytest.mark.parametrize(("reduction", "want"), [("mean", math.nan), ("sum", 0.0)])
def test_interpolated_of_nothing(reduction, want):
    out = torch.empty(())
    x = torch.empty(0, 5)
    interpolated.loss(x, x, torch.tensor(0.5), torch.empty(0, dtype=torch.int64), reduction, out)
    torch.testing.assert_close(out, torch.tensor(want), equal_nan=True)


def test_of_the_rows_with_one_partner_the_last_counts():
    perm, lam = torch.zeros(BATCH, dtype=torch.int64), torch.tensor(0.25)
    grad = torch.arange(BATCH, dtype=torch.float32)[:, None].expand(BATCH, 2)
    mixed_grad, teacher_grad = torch.empty(BATCH, 2), torch.empty(BATCH, 2)
    mixing.gradient([grad], lam, perm, [mixed_grad])
    student, teacher = torch.ones(BATCH, 2), torch.zeros(BATCH, 2)
    interpolated.gradient(grad, student, teacher, lam, perm, "none", None, teacher_grad)
    for gradient in (mixed_grad, -teacher_grad):
        assert gradient[0].tolist() == [0.75 * (BATCH - 1)] * 2
        assert gradient[1:].isnan().all()
