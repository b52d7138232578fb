"""winograd_conv2d is F.conv2d(padding=1) up to the rounding of its transforms."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch.library import opcheck

from dfad_fast import backends
from dfad_fast.ops import WinogradWeight, winograd_conv2d, winograd_weight

from .helpers import channels_last, contiguous, expanded, leaf, sliced, stepped, transposed

pytestmark = pytest.mark.backends("cpp")
ops = torch.ops.dfad_fast
TILES = pytest.mark.parametrize("tile", [2, 4])


@pytest.fixture(autouse=True)
def _on_the_cpu(device):
    if device != "cpu":
        pytest.skip("the compiled kernel is the CPU's")


# The largest error of float32, in proportion to the largest result; the direct convolution's is 1e-6 to 3e-6.
TOLERANCE = {2: 1e-6, 4: 4e-6}
# (N, C, K, H, W): more and less than a tile, than a panel of channels, than a block of tiles.
SHAPES = [
    (1, 1, 1, 1, 1),
    (2, 3, 5, 4, 4),
    (2, 33, 31, 5, 7),
    (3, 32, 64, 8, 9),
    (2, 70, 40, 3, 2),
    (5, 7, 16, 17, 30),
]
# Filters that no cache keeps: components are shared among the threads.
LARGE = (3, 160, 192, 6, 5)


def problem(shape, bias=True):
    n, c, k, h, w = shape
    return (
        channels_last(torch.randn(n, c, h, w)),
        torch.randn(k, c, 3, 3),
        torch.randn(k) if bias else None,
    )


def run(function, x, weight, bias, grad):
    """The result and the gradients of x, weight and bias."""
    leaves = [leaf(t) for t in (x, weight, bias) if t is not None]
    y = function(*leaves)
    return [y.detach(), *torch.autograd.grad(y, leaves, grad)]


def exact(x, weight, bias=None, relu=False):
    return F.relu(F.conv2d(x, weight, bias, padding=1)) if relu else F.conv2d(x, weight, bias, padding=1)


def assert_near(got, want, tile):
    assert got.shape == want.shape
    assert got.dtype == torch.float32
    largest = want.abs().max().item() if want.numel() else 0.0
    torch.testing.assert_close(got.double(), want, rtol=0, atol=TOLERANCE[tile] * largest + 1e-30)


def compare(x, weight, bias, grad, tile, **options):
    got = run(lambda *a: winograd_conv2d(*a, tile=tile, **options), x, weight, bias, grad)
    wide = [None if t is None else t.double() for t in (x, weight, bias, grad)]
    want = run(lambda *a: exact(*a, **options), *wide)
    for ours, theirs in zip(got, want, strict=True):
        assert_near(ours, theirs, tile)
    return got


@TILES
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [*SHAPES, LARGE])
def test_result_and_gradients_are_those_of_conv2d(shape, bias, tile):
    x, weight, b = problem(shape, bias)
    got = compare(x, weight, b, torch.randn(shape[0], shape[2], *shape[3:]), tile)
    assert got[0].is_contiguous(memory_format=torch.channels_last)


@TILES
def test_each_multiple_of_each_input_pixel_lands_where_conv2d_puts_it(tile):
    """Small integers: no rounding hides a filter that is turned or moved."""
    x = torch.zeros(1, 1, 9, 9)
    weight = torch.arange(1.0, 10).reshape(1, 1, 3, 3) * 24
    for i, j in itertools.product(range(9), range(9)):
        image = x.clone()
        image[0, 0, i, j] = 1
        got = winograd_conv2d(image, weight, tile=tile)
        torch.testing.assert_close(got, exact(image, weight), rtol=0, atol=2e-3)


@TILES
@pytest.mark.parametrize("layout", [contiguous, transposed, sliced, stepped, expanded])
@pytest.mark.parametrize("weight_layout", [contiguous, channels_last, transposed])
def test_any_layout(layout, weight_layout, tile):
    x, weight, bias = problem((2, 9, 34, 6, 7))
    grad = layout(torch.randn(2, 34, 6, 7))
    compare(layout(x.contiguous()), weight_layout(weight), bias, grad, tile)


@TILES
def test_the_weights_gradient_has_its_strides(tile):
    for layout in (contiguous, channels_last):
        x, weight, _ = problem((2, 5, 6, 4, 4), False)
        weight = leaf(layout(weight))
        winograd_conv2d(x, weight, tile=tile).sum().backward()
        assert weight.grad.stride() == weight.stride()


@TILES
def test_an_expanded_grad(tile):
    x, weight, bias = problem(SHAPES[3])
    compare(x, weight, bias, torch.ones(()).expand(3, 64, 8, 9), tile)


@TILES
@pytest.mark.parametrize("shape", [SHAPES[2], LARGE])
@pytest.mark.parametrize("wanted", [w for w in itertools.product([False, True], repeat=3) if any(w)])
def test_only_the_gradients_that_are_needed(wanted, shape, tile):
    inputs = problem(shape)
    given = [leaf(t) if w else t for t, w in zip(inputs, wanted, strict=True)]
    y = winograd_conv2d(*given, tile=tile)
    grad = torch.randn(y.shape)
    y.backward(grad)
    want = run(exact, *(t.double() for t in inputs), grad.double())[1:]
    for ours, theirs, w in zip(given, want, wanted, strict=True):
        assert (ours.grad is not None) == w
        if w:
            assert_near(ours.grad, theirs, tile)


@TILES
@pytest.mark.parametrize("shape", [SHAPES[5], LARGE])
def test_relu(shape, tile):
    x, weight, bias = problem(shape)
    grad = torch.randn(shape[0], shape[2], *shape[3:])
    y, *grads = run(lambda *a: winograd_conv2d(*a, tile=tile, relu=True), x, weight, bias, grad)
    assert_near(y, exact(x.double(), weight.double(), bias.double(), relu=True), tile)
    # Where the sign of a result is a matter of rounding, our own result decides.
    cut = torch.where(y > 0, grad, 0.0).double()
    want = run(exact, x.double(), weight.double(), bias.double(), cut)[1:]
    for ours, theirs in zip(grads, want, strict=True):
        assert_near(ours, theirs, tile)


def test_nan_and_infinity_spread_no_farther_than_a_tile():
    x, weight, _ = problem((2, 3, 4, 16, 16), False)
    x[0, 1, 2, 2] = float("nan")
    for relu in (False, True):
        y = winograd_conv2d(x, weight, relu=relu)
        assert y[0, :, 1:4, 1:4].isnan().all()
        assert y[0, :, 8:].isfinite().all()
        assert y[1].isfinite().all()


@TILES
@pytest.mark.parametrize("adjoint", [True, False])
@pytest.mark.parametrize("shape", [SHAPES[2], LARGE])
def test_filters_transformed_once_give_the_same_bits(shape, adjoint, tile):
    x, weight, bias = problem(shape)
    frozen = winograd_weight(weight.requires_grad_(), tile, adjoint)
    assert isinstance(frozen, WinogradWeight)
    assert frozen.nbytes > 0
    assert not frozen.weight.requires_grad
    x, grad = leaf(x), torch.randn(shape[0], shape[2], *shape[3:])
    results = []
    for w in (weight, frozen):
        y = winograd_conv2d(x, w, bias, tile)
        results.append([y, *torch.autograd.grad(y, x, grad)])
    for ours, theirs in zip(*results, strict=True):
        assert torch.equal(ours, theirs)


def test_a_frozen_weights_tile_is_its_own():
    x, weight, _ = problem(SHAPES[3], False)
    got = winograd_conv2d(x, winograd_weight(weight, 2), tile=4)
    assert torch.equal(got, winograd_conv2d(x, weight, tile=2))
    assert not torch.equal(got, winograd_conv2d(x, weight, tile=4))


def test_what_is_kept_for_backward():
    """x only for the weight's gradient; never transformed tiles or filters."""
    x, weight, _ = problem(SHAPES[3], False)
    kept = []

    def keep(t):
        kept.append(t.data_ptr())
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        winograd_conv2d(leaf(x), weight)
        assert kept == [weight.data_ptr()]
        kept.clear()
        winograd_conv2d(leaf(x), leaf(weight))
        assert kept == [x.data_ptr(), weight.data_ptr()]


@TILES
@pytest.mark.parametrize("shape", [(9, 20, 40, 14, 18), LARGE])
def test_the_same_bits_from_run_to_run_and_for_any_number_of_threads(shape, tile, threads):
    inputs, grad = problem(shape), torch.randn(shape[0], shape[2], *shape[3:])
    results = []
    for count in (1, 1, 2, 5):
        threads(count)
        results.append(run(lambda *a: winograd_conv2d(*a, tile=tile), *inputs, grad))
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert torch.equal(a, b)


@TILES
@pytest.mark.parametrize("tier", backends.extension.supported_tiers() if backends.extension else ["base"])
def test_every_tier(tier, tile, set_tier):
    set_tier(tier)
    for shape in (SHAPES[2], SHAPES[3]):
        x, weight, bias = problem(shape)
        compare(x, weight, bias, torch.randn(shape[0], shape[2], *shape[3:]), tile)


def test_empty_batches():
    x, weight, bias = (leaf(t) for t in problem((0, 3, 5, 4, 4)))
    y = winograd_conv2d(x, weight, bias)
    assert y.shape == (0, 5, 4, 4)
    y.sum().backward()
    assert x.grad.shape == x.shape
    assert not weight.grad.any()
    assert not bias.grad.any()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes_are_served_by_conv2d(dtype):
    x, weight, bias = (t.to(dtype) for t in problem(SHAPES[2]))
    for w in (weight, winograd_weight(weight)):
        assert torch.equal(winograd_conv2d(x, w, bias, relu=True), exact(x, weight, bias, relu=True))


def test_autocast_and_the_reference_backend_are_served_by_conv2d():
    x, weight, bias = problem(SHAPES[2])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(winograd_conv2d(x, weight, bias), exact(x, weight, bias))
    frozen = winograd_weight(weight)
    with backends.use_backend("reference"):
        assert torch.equal(winograd_conv2d(x, weight, bias), exact(x, weight, bias))
        assert torch.equal(winograd_conv2d(x, frozen, bias), exact(x, weight, bias))


X, W, B = torch.zeros(2, 4, 5, 5), torch.zeros(6, 4, 3, 3), torch.zeros(6)


@pytest.mark.parametrize(
    ("arguments", "kind", "text"),
    [
        (
            (X, torch.zeros(6, 4, 5, 5)),
            ValueError,
            r"weight must have shape \[K, C, 3, 3\], got \[6, 4, 5, 5\]",
        ),
        ((X, torch.zeros(4, 3, 3)), ValueError, r"weight must have shape \[K, C, 3, 3\], got \[4, 3, 3\]"),
        (
            (X, torch.zeros(6, 2, 3, 3)),
            ValueError,
            r"x must have shape \[N, 2, H, W\] for weight of shape \[6, 2, 3, 3\] \(no groups\), got \[2, 4, 5, 5\]",
        ),
        ((X[0], W), ValueError, r"x must have shape \[N, 4, H, W\] .*, got \[4, 5, 5\]"),
        ((X, W, torch.zeros(4)), ValueError, r"bias must have shape \[6\], got \[4\]"),
        ((X, W, B, 3), ValueError, "tile must be 2 or 4, got 3"),
        ((X, W.double()), TypeError, "x and weight must have the same dtype, got float32 and float64"),
        ((X.tolist(), W), TypeError, "x must be a tensor, got list"),
        ((X.to("meta"), W), ValueError, "x and weight must be on the same device, got meta and cpu"),
    ],
)
def test_errors(arguments, kind, text):
    with pytest.raises(kind, match=f"^winograd_conv2d: {text}"):
        winograd_conv2d(*arguments)


def test_the_compiled_op_finds_the_same_mistakes():
    with pytest.raises(ValueError, match=r"no groups\), got \[2, 4, 5, 5\]"):
        ops.winograd_conv2d(X, W[:, :2])
    with pytest.raises(ValueError, match=r"bias must have shape \[6\], got \[4\]"):
        ops.winograd_conv2d(X, W, B[:4])
    with pytest.raises(ValueError, match=r"tile must be 2 or 4, got 8"):
        ops.winograd_weight(W, 8)
    with pytest.raises(TypeError, match="the compiled kernels take float32, got float64 for x"):
        ops.winograd_conv2d(X.double(), W)
    for wrong in (ops.winograd_weight(W, 2), ops.winograd_weight(W, 4)[:, 1:]):
        with pytest.raises(ValueError, match="transformed filters must be the contiguous float32 tensor"):
            ops.winograd_conv2d(X, W, None, wrong)
    with pytest.raises(ValueError, match="the gradient of weight needs x, got none"):
        ops.winograd_conv2d_backward(torch.zeros(2, 6, 5, 5), None, W, None, None, 4, False, True, False)
    with pytest.raises(ValueError, match="grad must have the result's shape"):
        ops.winograd_conv2d_backward(torch.zeros(2, 6, 5, 4), X, W, None, None, 4, True, True, False)


def test_twice_differentiating_is_a_clear_error():
    x, weight, _ = problem(SHAPES[1], False)
    x = leaf(x)
    (grad,) = torch.autograd.grad(winograd_conv2d(x, leaf(weight)).square().sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="winograd_conv2d: double backward is not implemented"):
        grad.sum().backward()


def calls(tile):
    """(op, arguments) of every op and flag."""
    x, weight, bias = (leaf(t) for t in problem((2, 3, 5, 4, 6)))
    s, w = x.detach(), weight.detach()
    grad = torch.randn(2, 5, 4, 6)
    result = winograd_conv2d(s, w, None, tile, relu=True)
    both = ops.winograd_weight(w, tile), ops.winograd_weight(w, tile, True)
    yield "winograd_weight", (w, tile)
    yield "winograd_weight", (w, tile, True)
    yield "winograd_conv2d", (x, weight, bias, None, None, tile, False)
    yield "winograd_conv2d", (s, weight, None, None, None, tile, True)
    yield "winograd_conv2d", (x, w, bias, *both, tile, True)
    yield "winograd_conv2d_backward", (grad, s, w, None, None, tile, True, True, True)
    yield "winograd_conv2d_backward", (grad, s, w, result, None, tile, False, True, False)
    yield "winograd_conv2d_backward", (grad, None, w, result, both[1], tile, True, False, True)


@TILES
def test_schemas_and_fakes(tile):
    for name, arguments in calls(tile):
        utils = ["test_schema", "test_autograd_registration", "test_faketensor"]
        if name == "winograd_conv2d":
            utils.append("test_aot_dispatch_dynamic")
        opcheck(getattr(ops, name).default, arguments, test_utils=utils)


def test_compile():
    function = torch.compile(
        lambda x, weight, bias: winograd_conv2d(x, weight, bias, relu=True).square(),
        fullgraph=True,
        backend="aot_eager",
        dynamic=True,
    )
    torch._dynamo.reset()
    for shape in ((2, 3, 5, 4, 4), (3, 3, 5, 6, 7)):
        inputs, grad = problem(shape), torch.randn(shape[0], shape[2], *shape[3:])
        got = run(function, *inputs, grad)
        want = run(lambda *a: winograd_conv2d(*a, relu=True).square(), *inputs, grad)
        for ours, theirs in zip(got, want, strict=True):
            torch.testing.assert_close(ours, theirs)
