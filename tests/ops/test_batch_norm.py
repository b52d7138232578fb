"""batch_norm_act: values and gradients of the formula, in every layout, dtype and mode."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dfad_fast import backends
from dfad_fast.nn import BatchNormAct
from dfad_fast.ops import batch_norm_act
from dfad_fast.ops.batch_norm import reference
from tests import under_test
from tests.under_test import sized

from .helpers import DTYPES, LAYOUTS, channels_last, compiled, contiguous

# One group of lanes for all channels, two, several, and channels that fill no group; one channel; no images; planes
# that end inside a group; several blocks; planes of
# several blocks.
SHAPES = [
    (4, 8, 5, 7),
    (2, 64, 9, 5),
    (3, 96, 6, 6),
    (5, 10, 7, 3),
    (3, 1, 8, 8),
    (64, 37),
    (4, 3, 33),
    (2, 4, 3, 5, 2),
    (9, 16, 37, 53),
    (2, 3, 150, 150),
]
MODES = [(0.0, False), (0.0, True), (0.25, True), (0.25, False), (1.0, True), (1.0, False)]
TOLERANCE = {torch.float64: 1e-11, torch.float32: 2e-5, torch.float16: 3e-3, torch.bfloat16: 2e-2}


def inputs(shape, dtype=torch.float32, layout=contiguous, with_residual=True):
    x = layout(torch.randn(shape) * 2 + 3) if len(shape) == 4 else torch.randn(shape) * 2 + 3
    residual = layout(torch.randn(shape)) if len(shape) == 4 else torch.randn(shape)
    made = {
        "x": x.to(dtype),
        "residual": residual.to(dtype) if with_residual else None,
        "weight": torch.rand(shape[1]) + 0.5,
        "bias": torch.randn(shape[1]),
    }
    return {name: t.detach().requires_grad_() for name, t in made.items() if t is not None}


def exactly(tensors):
    return {name: t.detach().double().requires_grad_() for name, t in tensors.items()}


def value_and_gradients(function, tensors, grad, **options):
    out = function(**tensors, **options)
    out = out[0] if isinstance(out, tuple) else out
    return [out, *torch.autograd.grad(out, list(tensors.values()), grad.to(out.dtype))]


def assert_close(got, want, tolerance):
    for g, w in zip(got, want, strict=True):
        assert g.shape == w.shape
        assert (g.double() - w).abs().max() <= tolerance * max(1, w.abs().max())


@pytest.mark.parametrize(("slope", "with_residual"), MODES)
@pytest.mark.parametrize("shape", sized(SHAPES, [SHAPES[k] for k in (0, 3, 4, 5)]), ids=str)
def test_values_and_gradients_are_the_formulas(shape, slope, with_residual):
    tensors = inputs(shape, with_residual=with_residual)
    grad = torch.randn(shape)
    got = value_and_gradients(batch_norm_act, tensors, grad, slope=slope)
    assert_close(got, value_and_gradients(reference, exactly(tensors), grad, slope=slope), 2e-5)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", sized(LAYOUTS, (contiguous, channels_last)))
def test_layouts_and_dtypes(layout, dtype):
    tensors = inputs((4, 6, 5, 7), dtype, layout)
    grad = torch.randn(4, 6, 5, 7)
    got = value_and_gradients(batch_norm_act, tensors, grad)
    assert got[0].dtype == got[1].dtype == got[2].dtype == dtype
    if under_test.backend != "reference":  # which leaves that to torch
        assert got[0].stride() == torch.empty_like(tensors["x"]).stride()
    # The float64 formula at the values that the op was given; gradients as it got them.
    want = value_and_gradients(reference, exactly(tensors), grad.to(dtype).double())
    on = (got[0] > 0) == (want[0] > 0)  # rounding may move a value across the boundary
    assert on.double().mean() > 0.99
    assert_close(
        [g * on if g.dim() == 4 else g for g in got[:3]], [w * on for w in want[:3]], TOLERANCE[dtype]
    )
    # Those of weight and bias are float32.
    assert_close(got[3:], want[3:], max(2e-6, 20 * TOLERANCE[dtype]))


@pytest.mark.parametrize("layout", [contiguous, channels_last])
@pytest.mark.parametrize("name", ["x", "residual", "grad"])
def test_a_tensor_that_begins_beside_a_vector(name, layout):
    tensors = {**inputs((4, 8, 5, 4), layout=layout), "grad": layout(torch.randn(4, 8, 5, 4))}
    x = tensors[name].detach()
    beside = torch.empty(1 + x.numel()).as_strided(x.shape, x.stride(), 1).copy_(x)
    tensors[name] = beside.requires_grad_()
    grad = tensors.pop("grad").detach()
    got = value_and_gradients(batch_norm_act, tensors, grad)
    assert_close(got, value_and_gradients(reference, exactly(tensors), grad), 2e-5)


@pytest.mark.parametrize("layout", [contiguous, channels_last])
@pytest.mark.parametrize("with_residual", [True, False])
def test_fixed_statistics_let_no_gradient_through(layout, with_residual):
    shape = (4, 10, 6, 5)
    tensors = inputs(shape, layout=layout, with_residual=with_residual)
    mean, variance = torch.randn(10), torch.rand(10) + 0.1
    grad = torch.randn(shape)
    options = {"running_mean": mean, "running_var": variance, "training": False}
    got = value_and_gradients(batch_norm_act, tensors, grad, **options)
    exact = exactly(tensors)
    given = torch.stack((mean, variance)).double()
    assert_close(got, value_and_gradients(reference, exact, grad, given=given, constant=True), 2e-5)


@pytest.mark.parametrize("name", ["x", "residual", "weight", "bias"])
@pytest.mark.parametrize("fixed", [False, True])
def test_each_gradient_alone_is_the_one_among_all(name, fixed):
    tensors = inputs((3, 12, 5, 4), layout=channels_last)
    options = (
        {"running_mean": torch.zeros(12), "running_var": torch.ones(12), "training": False} if fixed else {}
    )
    grad = torch.randn(3, 12, 5, 4)
    every = value_and_gradients(batch_norm_act, tensors, grad, **options)[1:]
    alone = {key: t.detach().requires_grad_(key == name) for key, t in tensors.items()}
    (got,) = torch.autograd.grad(batch_norm_act(**alone, **options), [alone[name]], grad)
    assert torch.equal(got, dict(zip(tensors, every, strict=True))[name])


def test_without_affine_parameters_as_torchs():
    x = torch.randn(4, 6, 5, 5)
    torch.testing.assert_close(batch_norm_act(x, slope=1.0), F.batch_norm(x, None, None, training=True))
    torch.testing.assert_close(batch_norm_act(x), F.relu(F.batch_norm(x, None, None, training=True)))


@compiled
@pytest.mark.parametrize("layout", [contiguous, channels_last])
def test_bit_equal_for_any_number_of_threads(layout, threads):
    shape = sized((40, 24, 17, 19), (4, 6, 5, 7))
    tensors = inputs(shape, layout=layout)
    grad = torch.randn(shape)
    found = []
    for count in (1, 2, 3):
        threads(count)
        found.append(value_and_gradients(batch_norm_act, tensors, grad))
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


@pytest.mark.backends("cpp")
@pytest.mark.parametrize("layout", [contiguous, channels_last])
@pytest.mark.parametrize("tier", backends.extension.supported_tiers() if backends.extension else ["base"])
def test_tiers_agree_to_the_bit(tier, layout, set_tier):
    tensors = inputs((5, 10, 9, 7), layout=layout)
    grad = torch.randn(5, 10, 9, 7)
    set_tier("base")
    want = value_and_gradients(batch_norm_act, tensors, grad, slope=0.25)
    set_tier(tier)
    got = value_and_gradients(batch_norm_act, tensors, grad, slope=0.25)
    assert all(torch.equal(g, w) for g, w in zip(got, want, strict=True))


@pytest.mark.parametrize("layout", [contiguous, channels_last])
def test_a_mean_far_from_zero_and_an_outlier_at_the_front(layout):
    x = layout(torch.randn(8, 6, 9, 9) + torch.linspace(100, 3000, 6)[:, None, None])
    x[0, 0, 0, 0] = 1e5
    out, statistics = reference(x.double(), slope=1.0)
    got = batch_norm_act(x, slope=1.0)
    assert ((got.double() - out).abs().max() / out.abs().max()) < 1e-4
    running = [torch.zeros(6), torch.zeros(6)]
    batch_norm_act(x, None, None, *running, momentum=1.0)
    torch.testing.assert_close(running[0].double(), statistics[0], rtol=1e-6, atol=0)
    torch.testing.assert_close(running[1].double(), statistics[1] * 648 / 647, rtol=1e-4, atol=0)


def test_infinities_and_nan_as_torchs():
    x = torch.randn(4, 4, 3, 3)
    x[0, 1, 0, 0], x[0, 2, 0, 0] = float("nan"), float("inf")
    out = batch_norm_act(x)
    assert out[:, 1:3].isnan().all()
    assert not out[:, [0, 3]].isnan().any()
    # Before the ReLU: -inf gives 0, and no gradient; inf stays; NaN stays.
    mean, variance = torch.zeros(2), torch.ones(2)
    special = torch.tensor([[-float("inf"), float("inf")], [float("nan"), -1.0]], requires_grad=True)
    out = batch_norm_act(special, None, None, mean, variance, training=False)
    want = F.relu(F.batch_norm(special, mean, variance, training=False))
    torch.testing.assert_close(out, want, equal_nan=True)
    grad = torch.full_like(out, float("inf"))
    (got,) = torch.autograd.grad(out, special, grad)
    (wanted,) = torch.autograd.grad(want, special, grad)
    torch.testing.assert_close(got, wanted, equal_nan=True)


def test_statistics_that_are_known_are_taken():
    tensors = inputs((4, 6, 5, 5))
    grad = torch.randn(4, 6, 5, 5)
    x = tensors["x"].detach()
    variance, mean = torch.var_mean(x, (0, 2, 3), correction=0)
    known = torch.stack((mean, variance))
    got = value_and_gradients(batch_norm_act, tensors, grad, statistics=known)
    assert_close(got, [t.double() for t in value_and_gradients(batch_norm_act, tensors, grad)], 1e-5)


@compiled
def test_wrong_statistics_show():
    x = torch.randn(4, 6, 5, 5)
    assert not torch.equal(batch_norm_act(x), batch_norm_act(x, statistics=torch.ones(2, 6)))


def test_an_empty_batch_in_eval_mode():
    x = torch.randn(0, 6, 5, 5, requires_grad=True)
    out = batch_norm_act(x, None, None, torch.zeros(6), torch.ones(6), training=False)
    assert out.shape == x.shape
    assert torch.autograd.grad(out.sum(), x)[0].shape == x.shape


def test_a_gradient_that_is_expanded_or_in_another_layout():
    tensors = inputs((4, 6, 5, 5), layout=channels_last)
    out = batch_norm_act(**tensors)
    leaves = list(tensors.values())
    want = torch.autograd.grad(out, leaves, torch.ones_like(out), retain_graph=True)
    for grad in (torch.ones(()).expand_as(out), torch.ones(out.shape)):
        got = torch.autograd.grad(out, leaves, grad, retain_graph=True)
        assert all(torch.equal(g, w) for g, w in zip(got, want, strict=True))


def test_no_input_is_written_to():
    tensors = {name: t.detach() for name, t in inputs((3, 5, 4, 4)).items()}
    before = copy.deepcopy(tensors)
    batch_norm_act(**tensors)
    assert all(torch.equal(t, before[name]) for name, t in tensors.items())


def test_statistics_carry_no_gradient():
    out = backends.op("batch_norm_act") or reference
    _, statistics = out(torch.randn(4, 3, requires_grad=True), None, None, None, None, False, 0.0, 1e-5)
    assert not statistics.requires_grad


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("affine", [True, False])
def test_the_module_follows_torchs(momentum, affine):
    mine = BatchNormAct(6, momentum=momentum, affine=affine)
    theirs = nn.BatchNorm2d(6, momentum=momentum, affine=affine)
    mine.load_state_dict(theirs.state_dict())
    for _ in range(3):
        x, residual = torch.randn(4, 6, 5, 5), torch.randn(4, 6, 5, 5)
        torch.testing.assert_close(mine(x, residual), F.relu(theirs(x) + residual))
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(mine.state_dict()[name], value)
    x = torch.randn(4, 6, 5, 5)
    torch.testing.assert_close(mine.eval()(x), F.relu(theirs.eval()(x)))


def test_the_module_without_running_statistics_takes_the_batchs_in_eval_mode():
    x = torch.randn(4, 6, 5, 5)
    mine = BatchNormAct(6, track_running_stats=False).eval()
    torch.testing.assert_close(mine(x), F.relu(F.batch_norm(x, None, None, training=True)))


X = torch.randn(4, 3, 2, 2)
MISTAKES = [
    ({"weight": [1.0]}, TypeError, "weight must be a tensor, got list"),
    ({"running_mean": [0.0], "running_var": [1.0]}, TypeError, "running_mean must be a tensor, got list"),
    ({"x": X.long()}, TypeError, "x must be float64, float32, float16 or bfloat16, got int64"),
    ({"x": X[:, 0, 0, 0]}, ValueError, "x must have shape [B, C, ...] with at least one channel, got [4]"),
    (
        {"x": X[:1, :, :1, :1]},
        ValueError,
        "the batch's statistics need more than one value per channel, got x [1, 3, 1, 1]",
    ),
    (
        {"residual": X[:2]},
        ValueError,
        "residual must have the shape of x (nothing is broadcast), got [2, 3, 2, 2] and [4, 3, 2, 2]",
    ),
    ({"residual": X.double()}, TypeError, "residual must have the dtype of x, got float64 and float32"),
    ({"weight": torch.ones(4)}, ValueError, "weight must have shape [3], got [4]"),
    ({"bias": torch.ones(3, 1)}, ValueError, "bias must have shape [3], got [3, 1]"),
    ({"slope": 1.5}, ValueError, "slope must be between 0 and 1, got 1.5"),
    ({"eps": -1.0}, ValueError, "eps must be finite and not negative, got -1"),
    (
        {"running_mean": torch.zeros(2), "running_var": torch.ones(3)},
        ValueError,
        "running_mean must have shape [3]",
    ),
    (
        {"running_mean": torch.zeros(3), "running_var": torch.ones(1)},
        ValueError,
        "running_var must have shape [3]",
    ),
    (
        {"running_mean": torch.zeros(3), "running_var": torch.ones(3), "momentum": 2},
        ValueError,
        "momentum must be between 0 and 1, got 2",
    ),
    (
        {"running_mean": torch.zeros(3), "running_var": torch.ones(3), "momentum": None},
        TypeError,
        "momentum must be a number, got NoneType",
    ),
    (
        {"x": X[:1, :, :1, :1], "statistics": torch.ones(2, 3)},
        ValueError,
        "the batch's statistics need more than one value per channel, got x [1, 3, 1, 1]",
    ),
    (
        {"statistics": torch.ones(2, 4)},
        ValueError,
        "statistics must be the float32 tensor of shape [2, 3] that the op gives, got float32 of shape [2, 4]",
    ),
]


@pytest.mark.parametrize(("change", "kind", "text"), MISTAKES, ids=lambda v: v if isinstance(v, str) else "")
def test_one_text_per_mistake(change, kind, text):
    arguments = {"x": X, **change}
    for backend in ("auto", "reference"):
        with backends.use_backend(backend), pytest.raises(kind) as error:
            batch_norm_act(**arguments)
        assert f"batch_norm_act: {text}" in str(error.value)


def test_mistakes_of_the_call():
    with pytest.raises(ValueError, match="running_mean and running_var go together, got one of them"):
        batch_norm_act(X, running_mean=torch.zeros(3))
    with pytest.raises(ValueError, match="statistics go with those of the batch"):
        batch_norm_act(
            X,
            running_mean=torch.zeros(3),
            running_var=torch.ones(3),
            training=False,
            statistics=torch.ones(2, 3),
        )
    with pytest.raises(TypeError, match="x must be a tensor, got list"):
        batch_norm_act([1.0])
