"""What the dispatcher is told about each op: schema, fake kernel, autograd; for every layout."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.library import opcheck

from dfad_fast import backends
from dfad_fast.ops import (
    batch_norm_statistics_loss,
    boundary_hinge_loss,
    channel_statistics,
    interpolated_l1,
    kl_discrepancy,
    l1_discrepancy,
    mixup,
    pack_signs,
)
from tests.under_test import sized

from .helpers import (
    LAYOUTS,
    REDUCTIONS,
    SHAPE,
    channels_last,
    compiled,
    contiguous,
    expanded,
    leaf,
    mixing_of,
)

pytestmark = compiled
ops = torch.ops.dfad_fast
LAYOUT = pytest.mark.parametrize("layout", LAYOUTS)


def packed(x):
    return ops.pack_signs(x.detach())


def statistics(s, t):
    return ops.kl_discrepancy(s, t, 2.0, "mean")[1]


def grads_of(reduction, loss_shape):
    return torch.randn(loss_shape) if reduction == "none" else torch.tensor(2.0)


def calls(layout):
    """(op, arguments) of every op and flag; the student in this layout and requiring a gradient."""
    x, y = leaf(layout(torch.randn(SHAPE))), torch.randn(SHAPE)
    lam, perm = mixing_of(x)
    s = x.detach()
    yield "pack_signs", (s,)
    for reduction in REDUCTIONS:
        grad = grads_of(reduction, SHAPE)
        yield "l1_discrepancy", (x, leaf(y), reduction)
        signs = torch.ops.dfad_fast.l1_discrepancy(s, y, reduction, True)[1][0]
        teacher = None if reduction == "sum" else torch.float16
        yield "l1_discrepancy_backward", (grad, signs, SHAPE, s.stride(), s.dtype, teacher, reduction)
        yield "interpolated_l1", (x, leaf(y), lam, perm, reduction)
        yield "interpolated_l1_backward", (grad, s, y, lam, perm, reduction, reduction != "mean", True)
        yield "kl_discrepancy", (x, leaf(y), 2.0, reduction)
        rows = grads_of(reduction, (SHAPE[0], *SHAPE[2:]))
        yield (
            "kl_discrepancy_backward",
            (rows, s, y, statistics(s, y), 2.0, reduction, True, reduction != "sum"),
        )
        yield "boundary_hinge_loss", ([x], [y], [1.0], 0.5, reduction)
        yield "boundary_hinge_loss", ([x], [y.bfloat16()], [1.0], 0.5, reduction, True, True)
        yield "boundary_hinge_loss", ([x], [packed(x)], [1.0], 0.5, reduction, True)
        yield "boundary_hinge_loss_backward", (grad, [s], [packed(s)], [2.0], 1.0, reduction)
    yield "boundary_hinge_loss", ([x, leaf(y)], [y, y], [1.0, 0.5], 1.0, "mean", True, True, torch.float64)
    yield "l1_discrepancy", (x, y, "mean", True, torch.float64)
    yield "channel_statistics", ([x, leaf(y.double()), y[:, :, 0]],)
    grad = torch.randn(2, 2 * SHAPE[1])
    yield "channel_statistics_backward", (grad, [s, y], ops.channel_statistics([s, y]))
    norm = (torch.rand(SHAPE[1]), leaf(torch.rand(SHAPE[1])))
    yield "batch_norm_act", (x, leaf(y), *norm, None, False, 0.0, 1e-5)
    out, found = ops.batch_norm_act(s, y, *norm, None, False, 0.0, 1e-5)
    yield "batch_norm_act", (x, None, None, None, found, True, 0.5, 1e-5)
    weights = [w.detach().half() for w in norm]
    wanted = [True, layout is not contiguous, True, layout is not channels_last]
    yield "batch_norm_act_backward", (y, s, out.detach(), *weights, found, False, 0.0, 1e-5, wanted)
    yield "mixup", ([x, y], torch.tensor(0.3, dtype=torch.float64), perm)
    yield "mixup", ([x, leaf(torch.randn(SHAPE[0]))], lam, perm)
    yield "mixup_backward", ([s, y], lam, perm)


# Emulated kernels have the schemas of the others, and fakes' strides are asked for every layout below.
@pytest.mark.parametrize("layout", sized(LAYOUTS, (contiguous, channels_last, expanded)))
def test_schemas_and_fakes(layout):
    for name, arguments in calls(layout):
        opcheck(
            getattr(ops, name).default,
            arguments,
            test_utils=("test_schema", "test_autograd_registration", "test_faketensor"),
        )


@pytest.mark.parametrize("index", range(8))
@pytest.mark.parametrize("layout", sized((contiguous, channels_last), (channels_last,)))
def test_aot_dispatch(layout, index):
    differentiable = [call for call in calls(layout) if not call[0].endswith(("_backward", "pack_signs"))]
    for name, arguments in differentiable[index::8]:
        opcheck(getattr(ops, name).default, arguments, test_utils="test_aot_dispatch_dynamic")


@LAYOUT
def test_fakes_have_the_real_strides(layout):
    def described(results):
        results = results if isinstance(results, (list, tuple)) else [results]
        flat = [x for r in results for x in (r if isinstance(r, list) else [r])]
        return [(x.shape, x.stride(), x.dtype) for x in flat]

    def to_fake(mode, value):
        if isinstance(value, torch.Tensor):
            return mode.from_tensor(value)
        return [to_fake(mode, v) for v in value] if isinstance(value, list) else value

    for name, arguments in calls(layout):
        op = getattr(ops, name).default
        with torch.no_grad():
            real = op(*arguments)
            mode = FakeTensorMode()
            fakes = [to_fake(mode, a) for a in arguments]
            with mode:
                fake = op(*fakes)
        assert described(real) == described(fake), name


@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_meta_tensors(backend):
    s = torch.randn(4, 3, device="meta", dtype=torch.float16)
    t = torch.randn(4, 3, device="meta")
    perm = torch.empty(4, dtype=torch.int64, device="meta")
    with backends.use_backend(backend):
        assert l1_discrepancy(s, t).dtype == torch.float32
        assert boundary_hinge_loss(s, t, reduction="none").shape == (4, 3)
        assert boundary_hinge_loss(s, pack_signs(t)).dtype == torch.float16
        assert kl_discrepancy(s, t, 2.0, "none").shape == (4,)
        assert interpolated_l1(s, t, 0.5, perm).shape == ()
        assert channel_statistics(s).dtype == torch.float32
        assert batch_norm_statistics_loss(s, t[0], t[0]).shape == ()
        assert mixup(s, 0.5, perm).shape == (4, 3)
