import copy

import pytest
import torch

import dfad_fast
from dfad_fast import backends
from dfad_fast.models import DFADGenerator
from dfad_fast.ops import generator_block
from dfad_fast.ops.generator import reference

pytestmark = pytest.mark.backends("cpp")
NAMES = ("x", "weight", "bias", "norm_weight", "norm_bias")
# B, C in, C out, H, W, upsample, slope: images in groups, images by rows, one channel, odd sides, a single pixel, more
# than one panel of channels, and large outputs, which are written past the caches.
CASES = [
    (4, 8, 5, 4, 6, 2, 0.2),
    (3, 16, 1, 7, 5, 1, 0.2),
    (9, 3, 7, 1, 1, 2, 1.0),
    (37, 4, 3, 2, 2, 2, 0.2),
    (1, 64, 64, 41, 40, 2, 0.2),
    (2, 64, 3, 64, 64, 1, 0.0),
    (5, 35, 33, 2, 1, 2, 0.2),
    (1, 5, 40, 3, 50, 2, 0.2),
    (2, 70, 16, 43, 26, 2, 0.2),
    (5, 2, 15, 121, 125, 2, 0.2),
    (3, 8, 48, 130, 66, 2, 0.2),
    (65, 20, 16, 32, 32, 1, 0.2),
    (4, 37, 2, 9, 130, 1, 0.2),
    (70, 64, 1, 32, 32, 1, 0.2),
]


@pytest.fixture(autouse=True)
def _on_the_cpu(device):
    if device != "cpu":
        pytest.skip("the compiled kernel is the CPU's")


def inputs(case, dtype=torch.float32, grad=True):
    batch, c_in, c_out, height, width, upsample, slope = case
    random = torch.Generator().manual_seed(0)
    made = {
        "x": torch.randn(batch, c_in, height, width, generator=random) + 0.5,
        "weight": torch.randn(c_out, c_in, 3, 3, generator=random),
        "bias": torch.randn(c_out, generator=random),
        "norm_weight": torch.rand(c_in, generator=random) + 0.5,
        "norm_bias": torch.randn(c_in, generator=random),
    }
    tensors = {name: x.to(dtype).requires_grad_(grad) for name, x in made.items()}
    return tensors, {"upsample": upsample, "slope": slope}


def error(got, want):
    return ((got - want).abs().max() / want.abs().max()).item()


def results(function, tensors, options, grad):
    out, statistics, out_statistics = function(**tensors, **options)
    gradients = torch.autograd.grad(out, list(tensors.values()), grad.to(out))
    return [out, statistics, out_statistics, *gradients]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_output_statistics_and_gradients_are_the_formulas(case):
    tensors, options = inputs(case)
    exact = {name: x.detach().double().requires_grad_() for name, x in tensors.items()}
    batch, _, c_out, height, width, upsample, _ = case
    grad = torch.randn(batch, c_out, height * upsample, width * upsample)
    got = results(generator_block, tensors, options, grad)
    want = results(reference, exact, options, grad)
    for name, g, w in zip(("out", "statistics", "out_statistics", *NAMES), got, want, strict=True):
        assert g.shape == w.shape, name
        assert error(g, w) < 2e-5, name


def test_statistics_carry_no_gradient():
    tensors, options = inputs(CASES[0])
    _, statistics, out_statistics = generator_block(**tensors, **options)
    assert not statistics.requires_grad
    assert not out_statistics.requires_grad


def test_statistics_that_are_known_are_used():
    tensors, options = inputs(CASES[0])
    out, statistics, _ = generator_block(**tensors, **options)
    grad = torch.randn_like(out)
    leaves = list(tensors.values())
    again, same, _ = generator_block(**tensors, **options, statistics=statistics)
    other = generator_block(**tensors, **options, statistics=2 * statistics + 1)[0]
    assert torch.equal(again, out)
    assert torch.equal(same, statistics)
    assert not torch.equal(other, out)
    pairs = zip(torch.autograd.grad(again, leaves, grad), torch.autograd.grad(out, leaves, grad), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("wanted", NAMES)
def test_each_gradient_alone_is_the_one_among_all(wanted):
    tensors, options = inputs(CASES[0])
    out = generator_block(**tensors, **options)[0]
    grad = torch.randn_like(out)
    every = dict(zip(NAMES, torch.autograd.grad(out, list(tensors.values()), grad), strict=True))
    alone = {name: x.detach().requires_grad_(name == wanted) for name, x in tensors.items()}
    (got,) = torch.autograd.grad(generator_block(**alone, **options)[0], [alone[wanted]], grad)
    assert torch.equal(got, every[wanted])


def test_without_bias_and_affine_parameters():
    tensors, options = inputs(CASES[0])
    two = {name: tensors[name] for name in ("x", "weight")}
    exact = {name: x.detach().double().requires_grad_() for name, x in two.items()}
    grad = torch.randn(4, 5, 8, 12)
    for g, w in zip(
        results(generator_block, two, options, grad), results(reference, exact, options, grad), strict=True
    ):
        assert error(g, w) < 2e-5


@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "strided"])
def test_any_layout_gives_the_same_in_channels_last(layout):
    tensors, options = inputs(CASES[0], grad=False)
    x = tensors["x"].contiguous()
    expected = generator_block(**tensors, **options)[0]
    if layout == "channels_last":
        x = x.contiguous(memory_format=torch.channels_last)
    elif layout == "strided":
        wide = torch.zeros(*x.shape[:3], 2 * x.shape[3])
        wide[..., ::2] = x
        x = wide[..., ::2]
    out = generator_block(**{**tensors, "x": x}, **options)[0]
    assert torch.equal(out, expected)
    assert out.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_bit_equal_for_any_number_of_threads(case):
    tensors, options = inputs(case)
    batch, _, c_out, height, width, upsample, _ = case
    grad = torch.randn(batch, c_out, height * upsample, width * upsample)
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(results(generator_block, tensors, options, grad))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


@pytest.mark.parametrize("tier", backends.extension.supported_tiers() if backends.extension else ["base"])
@pytest.mark.parametrize("case", [c for c in CASES if c[0] * c[1] < 200], ids=str)
def test_tiers_agree(case, tier, set_tier):
    tensors, options = inputs(case)
    batch, _, c_out, height, width, upsample, _ = case
    grad = torch.randn(batch, c_out, height * upsample, width * upsample)
    set_tier("base")
    want = results(generator_block, tensors, options, grad)
    set_tier(tier)
    got = results(generator_block, tensors, options, grad)
    for name, g, w in zip(("out", "statistics", "out_statistics", *NAMES), got, want, strict=True):
        assert error(g, w) < 2e-5, name


def test_statistics_of_outputs_far_from_zero_that_begin_with_an_outlier():
    tensors, options = inputs((9, 4, 40, 8, 8, 2, 0.2), grad=False)
    tensors["bias"] = torch.linspace(100, 1000, 40)
    tensors["x"][0, :, 0, 0] *= 1000
    out, _, found = generator_block(**tensors, **options)
    variance, mean = torch.var_mean(out.double(), dim=(0, 2, 3), correction=0)
    assert error(found[0], mean) < 1e-6
    assert ((found[1] - variance).abs() / variance).max() < 1e-5


def test_a_gradient_that_is_expanded_or_no_channels_last():
    tensors, options = inputs(CASES[0])
    out = generator_block(**tensors, **options)[0]
    leaves = list(tensors.values())
    for grad in (torch.ones(()).expand_as(out), torch.ones_like(out, memory_format=torch.contiguous_format)):
        got = torch.autograd.grad(out, leaves, grad, retain_graph=True)
        want = torch.autograd.grad(out, leaves, torch.ones_like(out), retain_graph=True)
        assert all(torch.equal(g, w) for g, w in zip(got, want, strict=True))


def test_nan_in_one_channel_stays_out_of_the_others_statistics():
    tensors, options = inputs(CASES[0], grad=False)
    tensors["x"][0, 2, 0, 0] = float("nan")
    _, statistics, out_statistics = generator_block(**tensors, **options)
    assert statistics.isnan().nonzero().tolist() == [[0, 2], [1, 2]]
    assert out_statistics.isnan().all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_types_take_plain_pytorch(dtype):
    tensors, options = inputs(CASES[0], dtype)
    out = generator_block(**tensors, **options)[0]
    assert out.dtype == dtype
    assert torch.equal(out, reference(**tensors, **options)[0])


def test_the_reference_can_be_forced():
    tensors, options = inputs(CASES[0])
    with dfad_fast.use_backend("reference"):
        out = generator_block(**tensors, **options)[0]
    assert torch.equal(out, reference(**tensors, **options)[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.zeros(4, 8)}, r"x must have the shape \[B, C, H, W\], got \[4, 8\]"),
        ({"weight": torch.zeros(5, 7, 3, 3)}, r"weight must have the shape \[channels, 8, 3, 3\]"),
        ({"weight": torch.zeros(0, 8, 3, 3)}, "at least one channel"),
        ({"upsample": 3}, "upsample must be 1 or 2, got 3"),
        ({"x": torch.zeros(1, 8, 1, 1)}, "more than one value per channel"),
        ({"bias": torch.zeros(4)}, r"bias must be a float32 tensor of shape \[5\]"),
        ({"statistics": torch.zeros(2, 3)}, r"statistics must be a float32 tensor of shape \[2, 8\]"),
        ({"norm_weight": torch.zeros(3)}, r"norm_weight must be a float32 tensor of shape \[8\]"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    tensors, options = inputs(CASES[0])
    with pytest.raises((ValueError, RuntimeError), match=message):
        generator_block(**{**tensors, **options, **change})


def test_a_second_derivative_is_refused_by_name():
    tensors, options = inputs(CASES[0])
    out = generator_block(**tensors, **options)[0]
    (grad,) = torch.autograd.grad(out.square().sum(), [tensors["x"]], create_graph=True)
    with pytest.raises(RuntimeError, match="generator_block"):
        grad.sum().backward()


def test_torchs_own_checks_of_the_op():
    tensors, options = inputs(CASES[0])
    arguments = (
        tensors["x"],
        None,
        tensors["norm_weight"],
        tensors["norm_bias"],
        tensors["weight"],
        tensors["bias"],
    )
    torch.library.opcheck(
        torch.ops.dfad_fast.generator_block.default, (*arguments, options["upsample"], options["slope"], 1e-5)
    )


def generators(shape=(1, 12, 8)):
    torch.manual_seed(0)
    fused = DFADGenerator(shape, latent_dim=16, width=8)
    plain = copy.deepcopy(fused)
    plain.fused = False
    return fused, plain


def test_the_generator_gives_the_same_images_gradients_and_statistics_either_way():
    fused, plain = generators()
    noise = torch.randn(16, 16)
    grad = torch.randn(16, 1, 12, 8)
    exact = copy.deepcopy(plain).double()
    for network in (fused, plain, exact):
        network.train()
        images = network(noise.to(next(network.parameters())))
        images.backward(grad.to(images))
    for (name, ours), theirs, true in zip(
        fused.named_parameters(), plain.parameters(), exact.parameters(), strict=True
    ):
        scale = true.grad.abs().max()
        rounding = (theirs.grad - true.grad).abs().max()
        assert (ours.grad - true.grad).abs().max() <= 10 * rounding + 1e-5 * scale, name
    for (name, ours), theirs in zip(fused.named_buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs, msg=name)


def test_the_generator_runs_layer_by_layer_where_the_op_does_not_fit():
    for shape in ((1, 10, 10), (1, 12, 8)):
        fused, plain = generators(shape)
        noise = torch.randn(4, 16)
        if shape[1] % 4 == 0:
            fused.eval(), plain.eval()
        assert torch.equal(fused(noise), plain(noise))
