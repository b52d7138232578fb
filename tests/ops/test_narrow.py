"""narrow_conv2d is F.conv2d with what follows it: directly, on whole numbers, bit for bit, since no sum of them is
rounded; by tiles up to the rounding of their transforms."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch.library import opcheck

from dfad_fast import backends
from dfad_fast.ops import narrow_conv2d, narrow_conv2d_with_statistics

from .helpers import channels_last, contiguous, expanded, leaf, sliced, stepped, transposed

pytestmark = pytest.mark.backends("cpp")
ops = torch.ops.dfad_fast
KERNELS = pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (1, 1), (1, 2)])
TIERS = backends.extension.supported_tiers() if backends.extension else ["base"]
# (N, C, K, H, W): more and less than a block of channels, than each width of registers, than a tile of pixels and two
# rows of it; two that are cut into bands of rows; few channels on one side.
SHAPES = [
    (1, 1, 1, 1, 1),
    (2, 3, 8, 2, 1),
    (2, 8, 16, 7, 7),
    (1, 10, 3, 6, 8),
    (2, 16, 8, 5, 14),
    (1, 7, 40, 4, 16),
    (3, 9, 24, 3, 17),
    (1, 64, 32, 4, 28),
    (1, 20, 70, 3, 33),
    (1, 3, 5, 151, 150),
    (1, 64, 9, 40, 31),
    (2, 1, 16, 6, 9),
    (1, 16, 2, 5, 6),
]


@pytest.fixture(autouse=True)
def _on_the_cpu(device):
    if device != "cpu":
        pytest.skip("the compiled kernel is the CPU's")


def whole(*shape):
    return torch.randint(-3, 4, shape).float()


def result_shape(shape, stride):
    n, _, k, h, w = shape
    return n, k, -(-h // stride), -(-w // stride)


def problem(shape, kernel=3, stride=1, make=whole):
    """x, weight, bias and residual."""
    n, c, k, h, w = shape
    return [
        channels_last(make(n, c, h, w)),
        make(k, c, kernel, kernel),
        make(k),
        channels_last(make(*result_shape(shape, stride))),
    ]


def exact(x, weight, bias=None, residual=None, stride=1, slope=1.0):
    y = F.conv2d(x, weight, bias, stride, weight.shape[2] // 2)
    if residual is not None:
        y = y + residual
    return F.relu(y) if slope == 0 else F.leaky_relu(y, slope) if slope != 1 else y


def run(function, inputs, grad, **options):
    """The result and the gradients of all inputs."""
    leaves = [leaf(t) for t in inputs]
    y = function(*leaves, **options)
    return [y.detach(), *torch.autograd.grad(y, leaves, grad)]


def compare(inputs, grad, **options):
    got = run(narrow_conv2d, inputs, grad, **options)
    want = run(exact, [t.double() for t in inputs], grad.double(), **options)
    for ours, theirs in zip(got, want, strict=True):
        assert ours.dtype == torch.float32
        assert torch.equal(ours.double(), theirs)
    return got


@KERNELS
@pytest.mark.parametrize("tier", TIERS)
def test_results_and_gradients_are_those_of_conv2d(kernel, stride, tier, set_tier):
    set_tier(tier)
    for shape in SHAPES:
        x, weight, *_ = problem(shape, kernel, stride)
        y, *_ = compare([x, weight], whole(*result_shape(shape, stride)), stride=stride)
        assert y.is_contiguous(memory_format=torch.channels_last)


@KERNELS
@pytest.mark.parametrize("slope", [0.0, 0.25, 1.0])
def test_bias_residual_and_activation(kernel, stride, slope):
    for shape in (*SHAPES[1:7], *SHAPES[-2:]):
        inputs, grad = problem(shape, kernel, stride), whole(*result_shape(shape, stride))
        compare(inputs, grad, stride=stride, slope=slope)
        compare(inputs[:3], grad, stride=stride, slope=slope)
        residual = inputs[3]
        y = narrow_conv2d(*inputs[:2], residual=residual, stride=stride, slope=slope)
        assert torch.equal(y, exact(*inputs[:2], residual=residual, stride=stride, slope=slope))


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("slope", [0.0, 0.25, 1.0])
def test_tiles_give_the_same_up_to_rounding(tier, slope, set_tier):
    set_tier(tier)
    for shape in (*SHAPES[1:9], (70, 16, 16, 4, 4)):
        x, weight, bias, residual = problem(shape, make=torch.randn)
        grad = torch.randn(result_shape(shape, 1))
        y, *grads = run(narrow_conv2d, [x, weight, bias, residual], grad, slope=slope, tile=4)
        assert y.is_contiguous(memory_format=torch.channels_last)
        wide = [t.double() for t in (x, weight, bias, residual)]
        # Where the sign of a result is a matter of rounding, our own result decides.
        cut = torch.where(y > 0, grad, slope * grad).double()
        want = [exact(*wide, slope=slope), *run(exact, wide, cut)[1:]]
        for ours, theirs in zip((y, *grads), want, strict=True):
            largest = theirs.abs().max().item()
            torch.testing.assert_close(ours.double(), theirs, rtol=0, atol=4e-6 * largest)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1, 1), (2, 3, 5, 9, 6)])
def test_each_multiple_of_each_pixel_lands_where_conv2d_puts_it(shape):
    n, c, k, h, w = shape
    weight = torch.arange(1.0, k * c * 9 + 1).reshape(k, c, 3, 3) * 24
    for place in itertools.product(range(n), range(c), range(h), range(w)):
        x = torch.zeros(n, c, h, w)
        x[place] = 1
        got = narrow_conv2d(x, weight, tile=4)
        torch.testing.assert_close(got, exact(x, weight), rtol=0, atol=2e-5 * weight.max().item())


@pytest.mark.parametrize("tile", [0, 4])
@pytest.mark.parametrize("layout", [contiguous, transposed, sliced, stepped, expanded])
def test_images_of_any_layout_by_tiles(layout, tile):
    x, weight, bias, residual = (t.contiguous() for t in problem((2, 9, 34, 6, 7), make=torch.randn))
    grad = torch.randn(2, 34, 6, 7)
    want = run(narrow_conv2d, [x, weight, bias, residual], grad, slope=0.5, tile=tile)
    other = [layout(x), weight, bias, layout(residual)]
    if layout is expanded:
        want = run(
            narrow_conv2d, [t.contiguous() for t in other], layout(grad).contiguous(), slope=0.5, tile=tile
        )
    got = run(narrow_conv2d, other, layout(grad), slope=0.5, tile=tile)
    for ours, theirs in zip(got, want, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ("kernel", "stride", "tile"), [(3, 1, 0), (3, 2, 0), (1, 1, 0), (1, 2, 0), (3, 1, 4)]
)
@pytest.mark.parametrize("shape", SHAPES[1:])
def test_statistics_are_those_of_the_result(kernel, stride, tile, shape):
    x, weight, bias, _ = problem(shape, kernel, stride, torch.randn)
    # Sums of squares alone would lose the variance beside such a mean.
    y, statistics = narrow_conv2d_with_statistics(x, weight, bias + 1000, stride=stride, tile=tile)
    assert torch.equal(y, narrow_conv2d(x, weight, bias + 1000, stride=stride, tile=tile))
    variance, mean = torch.var_mean(y.double(), dim=(0, 2, 3), correction=0)
    torch.testing.assert_close(statistics[0].double(), mean, rtol=1e-6, atol=0)
    torch.testing.assert_close(statistics[1].double(), variance, rtol=1e-4, atol=1e-6)


def test_statistics_have_no_gradient_and_the_result_has():
    x, weight, *_ = problem(SHAPES[2])
    y, statistics = narrow_conv2d_with_statistics(leaf(x), weight)
    assert y.requires_grad
    assert not statistics.requires_grad


@pytest.mark.parametrize("layout", [contiguous, transposed, sliced, stepped, expanded])
@pytest.mark.parametrize("weight_layout", [contiguous, channels_last, transposed])
def test_any_layout(layout, weight_layout):
    for stride, shape in ((1, (2, 9, 34, 6, 7)), (2, (2, 16, 8, 5, 6))):
        x, weight, bias, residual = problem(shape, 3, stride)
        grad = layout(whole(*result_shape(shape, stride)))
        inputs = [layout(x.contiguous()), weight_layout(weight), bias, layout(residual.contiguous())]
        _, _, weight_grad, *_ = compare(inputs, grad, stride=stride, slope=0.5)
        assert weight_grad.stride() == torch.empty_like(inputs[1]).stride()


@pytest.mark.parametrize("slope", [0.0, 1.0])
@pytest.mark.parametrize("wanted", [w for w in itertools.product([False, True], repeat=4) if any(w)])
def test_only_the_gradients_that_are_needed(wanted, slope):
    inputs = problem((2, 10, 9, 5, 6))
    given = [leaf(t) if w else t for t, w in zip(inputs, wanted, strict=True)]
    grad = whole(2, 9, 5, 6)
    narrow_conv2d(*given, slope=slope).backward(grad)
    want = run(exact, [t.double() for t in inputs], grad.double(), slope=slope)[1:]
    for ours, theirs, w in zip(given, want, wanted, strict=True):
        assert (ours.grad is not None) == w
        if w:
            assert torch.equal(ours.grad.double(), theirs)


def test_rounding_errors_are_those_of_a_direct_convolution():
    inputs = problem((8, 64, 64, 8, 8), make=torch.randn)
    grad = torch.randn(8, 64, 8, 8)
    got = run(narrow_conv2d, inputs, grad)
    want = run(exact, [t.double() for t in inputs], grad.double())
    for ours, theirs in zip(got, want, strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=0, atol=2e-6 * theirs.abs().max().item())


@KERNELS
@pytest.mark.parametrize("slope", [0.0, 0.25, 1.0])
def test_nan_and_infinity_go_through_as_in_torch(kernel, stride, slope):
    x, weight, bias, residual = problem((2, 8, 9, 9, 9), kernel, stride)
    x[0, 1, 2, 2], x[1, 3, 4, 4], x[1, 3, 8, 8] = float("nan"), float("inf"), -float("inf")
    residual[0, 0, 0, 0], residual[0, 0, 1, 1] = -float("inf"), float("nan")
    grad = whole(*residual.shape)
    got = run(narrow_conv2d, [x, weight, bias, residual], grad, stride=stride, slope=slope)
    want = run(exact, [x, weight, bias, residual], grad, stride=stride, slope=slope)
    for ours, theirs in zip(got, want, strict=True):
        torch.testing.assert_close(ours, theirs, equal_nan=True)


def test_nan_and_infinity_spread_no_farther_than_a_tile():
    x, weight, bias, residual = problem((2, 3, 4, 16, 16))
    x[0, 1, 2, 2] = float("nan")
    for slope in (0.0, 0.25, 1.0):
        y = narrow_conv2d(x, weight, bias, residual, slope=slope, tile=4)
        assert y[0, :, 1:4, 1:4].isnan().all()
        assert y[0, :, 8:].isfinite().all()
        assert y[1].isfinite().all()


@pytest.mark.parametrize("tile", [0, 4])
@pytest.mark.parametrize("shape", [(9, 8, 16, 14, 14), (1, 3, 16, 151, 150), (40, 10, 8, 5, 5)])
def test_the_same_bits_from_run_to_run_and_for_any_number_of_threads(shape, tile, threads):
    inputs, grad = problem(shape, make=torch.randn), torch.randn(result_shape(shape, 1))
    results = []
    for count in (1, 1, 2, 5):
        threads(count)
        statistics = narrow_conv2d_with_statistics(*inputs[:2], tile=tile)[1]
        results.append([*run(narrow_conv2d, inputs, grad, slope=0.0, tile=tile), statistics])
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize(("kernel", "stride", "tile"), [(3, 1, 0), (3, 2, 0), (1, 2, 0), (3, 1, 4)])
def test_empty_batches(kernel, stride, tile):
    x, weight, bias, residual = (leaf(t) for t in problem((0, 3, 5, 4, 4), kernel, stride))
    y = narrow_conv2d(x, weight, bias, residual, stride=stride, slope=0.0, tile=tile)
    assert y.shape == result_shape((0, 3, 5, 4, 4), stride)
    y.sum().backward()
    assert x.grad.shape == x.shape
    assert not weight.grad.any()
    assert not bias.grad.any()
    assert narrow_conv2d_with_statistics(x, weight, stride=stride, tile=tile)[1].isnan().all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes_are_served_by_conv2d(dtype):
    inputs = [t.to(dtype) for t in problem(SHAPES[2])]
    assert torch.equal(narrow_conv2d(*inputs, slope=0.0), exact(*inputs, slope=0.0))
    y, statistics = narrow_conv2d_with_statistics(*inputs[:2])
    assert y.dtype == dtype
    assert statistics.shape == (2, 16)


def test_autocast_and_the_reference_backend_are_served_by_conv2d():
    inputs = problem(SHAPES[2], make=torch.randn)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert narrow_conv2d(*inputs[:3]).dtype == torch.bfloat16
    with backends.use_backend("reference"):
        assert torch.equal(narrow_conv2d(*inputs, slope=0.5), exact(*inputs, slope=0.5))


X, W, B = torch.zeros(2, 4, 5, 5), torch.zeros(6, 4, 3, 3), torch.zeros(6)


@pytest.mark.parametrize(
    ("arguments", "options", "kind", "text"),
    [
        (
            (X, torch.zeros(6, 4, 5, 5)),
            {},
            ValueError,
            r"weight must have shape \[K, C, 3, 3\] or \[K, C, 1, 1\], got \[6, 4, 5, 5\]",
        ),
        ((X, torch.zeros(6, 4, 3, 1)), {}, ValueError, r"weight must have shape .*, got \[6, 4, 3, 1\]"),
        (
            (X, W[:, :2]),
            {},
            ValueError,
            r"x must have shape \[N, 2, H, W\] for weight of shape \[6, 2, 3, 3\] \(no groups\), got \[2, 4, 5, 5\]",
        ),
        ((X, W, B[:4]), {}, ValueError, r"bias must have shape \[6\], got \[4\]"),
        (
            (X, W, None, torch.zeros(2, 6, 5, 4)),
            {},
            ValueError,
            r"residual must have the result's shape \[2, 6, 5, 5\], got \[2, 6, 5, 4\]",
        ),
        ((X, W), {"stride": 3}, ValueError, "stride must be 1 or 2, got 3"),
        ((X, W), {"slope": 1.5}, ValueError, r"slope must be in \[0, 1\], got 1.5"),
        ((X, W), {"tile": 2}, ValueError, "tile must be 0, or 4 for 3x3 filters and a stride of 1, got 2"),
        ((X, W), {"tile": 4, "stride": 2}, ValueError, "tile must be 0, or 4 for 3x3 .*, got 4"),
        ((X, W[..., 1:2, 1:2]), {"tile": 4}, ValueError, "tile must be 0, or 4 for 3x3 .*, got 4"),
    ],
)
def test_errors_are_the_same_from_all(arguments, options, kind, text):
    for backend in ("cpp", "reference"):
        with backends.use_backend(backend), pytest.raises(kind, match=f"^narrow_conv2d: {text}"):
            narrow_conv2d(*arguments, **options)
    with pytest.raises(kind, match=f"^narrow_conv2d: {text}"):
        narrow_conv2d(*(None if t is None else t.to("meta") for t in arguments), **options)


def test_errors_of_what_is_passed():
    with pytest.raises(TypeError, match=r"^narrow_conv2d: x must be a tensor, got list"):
        narrow_conv2d(X.tolist(), W)
    with pytest.raises(TypeError, match=r"^narrow_conv2d: residual must be a tensor, got int"):
        narrow_conv2d(X, W, None, 3)
    with pytest.raises(TypeError, match="x and weight must have the same dtype, got float32 and float64"):
        narrow_conv2d(X, W.double())
    with pytest.raises(ValueError, match="x and weight must be on the same device, got meta and cpu"):
        narrow_conv2d(X.to("meta"), W)


def test_the_compiled_op_finds_the_same_mistakes():
    out = torch.zeros(2, 6, 5, 5)
    with pytest.raises(TypeError, match="the compiled kernels take float32, got float64 for x"):
        ops.narrow_conv2d(X.double(), W, None, None, 1, 1.0, False)
    for residual, slope in ((out, 1.0), (None, 0.5)):
        with pytest.raises(ValueError, match="statistics are those of the convolution alone"):
            ops.narrow_conv2d(X, W, None, residual, 1, slope, True)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_mistakes_of_the_backward_op_have_the_same_texts_in_the_fake(device):
    x, weight, out = (t.to(device) for t in (X, W, torch.zeros(2, 6, 5, 5)))
    with pytest.raises(ValueError, match="the gradient of an activation needs its result, got none"):
        ops.narrow_conv2d_backward(out, x, weight, None, 1, 0.5, 0, [True] * 4)
    with pytest.raises(
        ValueError, match=r"grad must have the result's shape \[2, 6, 5, 5\], got \[2, 6, 5, 4\]"
    ):
        ops.narrow_conv2d_backward(out[..., :4], x, weight, None, 1, 1.0, 0, [True] * 4)
    with pytest.raises(
        ValueError, match=r"out must have the result's shape \[2, 6, 5, 5\], got \[2, 6, 5, 4\]"
    ):
        ops.narrow_conv2d_backward(out, x, weight, out[..., :4], 1, 0.5, 0, [True] * 4)


def test_twice_differentiating_is_a_clear_error():
    x, weight, *_ = problem(SHAPES[2])
    x = leaf(x)
    (grad,) = torch.autograd.grad(narrow_conv2d(x, leaf(weight)).square().sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="narrow_conv2d: double backward is not implemented"):
        grad.sum().backward()


def test_what_is_kept_for_backward():
    x, weight, bias, residual = problem(SHAPES[2])
    kept = []

    def keep(t):
        kept.append(t.data_ptr())
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        narrow_conv2d(leaf(x), leaf(weight), bias, residual)
        assert kept == [x.data_ptr(), weight.data_ptr()]
        kept.clear()
        y = narrow_conv2d(leaf(x), weight, bias, residual, slope=0.0)
        assert kept == [x.data_ptr(), weight.data_ptr(), y.data_ptr()]


def calls(kernel, stride):
    """(op, arguments) of every op and flag."""
    shape = (2, 3, 9, 5, 6)
    inputs = problem(shape, kernel, stride, torch.randn)
    x, weight, bias, residual = (leaf(t) for t in inputs)
    s, w = x.detach(), weight.detach()
    grad, out = torch.randn(result_shape(shape, stride)), narrow_conv2d(s, w, stride=stride, slope=0.25)
    yield "narrow_conv2d", (x, weight, bias, residual, stride, 0.0, False)
    yield "narrow_conv2d", (s, weight, None, residual, stride, 1.0, False)
    yield "narrow_conv2d", (x, w, None, None, stride, 1.0, True)
    yield "narrow_conv2d_backward", (grad, s, w, None, stride, 1.0, 0, [True, True, True, False])
    yield "narrow_conv2d_backward", (grad, s, w, out, stride, 0.25, 0, [False, True, False, True])
    yield "narrow_conv2d_backward", (grad, s, w, out, stride, 0.0, 0, [True, False, True, True])
    if (kernel, stride) == (3, 1):
        yield "narrow_conv2d", (x, weight, bias, residual, stride, 0.0, False, 4)
        yield "narrow_conv2d_backward", (grad, s, w, None, stride, 1.0, 4, [True, True, True, True])


@KERNELS
def test_schemas_and_fakes(kernel, stride):
    for name, arguments in calls(kernel, stride):
        utils = ["test_schema", "test_autograd_registration", "test_faketensor"]
        if name == "narrow_conv2d":
            utils.append("test_aot_dispatch_dynamic")
        opcheck(getattr(ops, name).default, arguments, test_utils=utils)


def test_compile():
    function = torch.compile(
        lambda x, weight, bias, residual: narrow_conv2d(
            x, weight, bias, residual, stride=2, slope=0.0
        ).square(),
        fullgraph=True,
        backend="aot_eager",
        dynamic=True,
    )
    torch._dynamo.reset()
    for shape in ((2, 3, 5, 4, 4), (3, 3, 5, 6, 7)):
        inputs, grad = problem(shape, 3, 2), whole(*result_shape(shape, 2))
        got = run(function, inputs, grad)
        want = run(lambda *a: exact(*a, stride=2, slope=0.0).square(), inputs, grad)
        for ours, theirs in zip(got, want, strict=True):
            assert torch.equal(ours, theirs)


def test_no_columns():
    x = torch.zeros(1, 8, 4, 0)
    assert narrow_conv2d(x, torch.zeros(8, 8, 1, 1)).shape == (1, 8, 4, 0)
