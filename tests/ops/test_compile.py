"""torch.compile without graph breaks: the same numbers, dynamic shapes, and no compilation per value of lam."""

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from dfad_fast import backends
from dfad_fast.ops import (
    boundary_hinge_loss,
    interpolated_l1,
    l1_discrepancy,
    mixup,
    pack_signs,
    virtual_batch,
)
from tests.under_test import backend, sized

from .helpers import channels_last, compiled, leaf
from .samples import CALLS


@pytest.fixture(autouse=True)
def _fresh_dynamo():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def value_and_gradients(function, s, t, inputs):
    s, t = leaf(s), leaf(t)
    loss = function(s, t)
    return loss.detach(), *torch.autograd.grad(loss.sum(), [(s, t)[i] for i in inputs])


def compare(name, function, shape):
    s, t = torch.randn(shape), torch.randn(shape)
    got = value_and_gradients(function, s, t, CALLS[name].inputs)
    want = value_and_gradients(CALLS[name].function, s, t, CALLS[name].inputs)
    for ours, theirs in zip(got, want, strict=True):
        torch.testing.assert_close(ours, theirs)


# To pack signs, the reference sorts strides, which cannot be symbols.
@pytest.mark.parametrize("name", [n for n in CALLS if not (n == "hinge_on_bits" and backend == "reference")])
def test_aot_eager_with_dynamic_shapes(name):
    function = torch.compile(CALLS[name].function, fullgraph=True, backend="aot_eager", dynamic=True)
    for shape in sized(((4, 5), (6, 9), (3, 17)), ((4, 5), (6, 9))):
        compare(name, function, shape)


def everything(x, y, lam, perm):
    """Every public op, in one graph."""
    mixed, labels = virtual_batch(x, y, lam, perm)
    loss = l1_discrepancy(mixed * 2, labels) + boundary_hinge_loss([x, x], [y, y], 0.5, "mean", [0.1, 0.2])
    loss = loss + boundary_hinge_loss(x, pack_signs(y)) + mixup(x, lam, perm).square().mean()
    loss = loss + interpolated_l1(x, y, lam, perm) + CALLS["kl"].function(x, y)
    return loss + CALLS["hinge_agreement"].function(x, y)


@pytest.mark.slow
@pytest.mark.parametrize("dynamic", [False, True])
def test_inductor(dynamic, monkeypatch, tmp_path):
    # torch's cache of compiled code does not notice changed fake kernels.
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    function = torch.compile(everything, fullgraph=True, backend="inductor", dynamic=dynamic)
    # A second static shape would be compiled as the first was.
    for shape in ((6, 5), (8, 3)) if dynamic else ((6, 5),):
        x, y = leaf(torch.randn(shape)), torch.randn(shape)
        lam, perm = torch.rand(shape[0]), torch.randperm(shape[0])
        got, want = (f(x, y, lam, perm) for f in (function, everything))
        torch.testing.assert_close(got, want)
        torch.testing.assert_close(*(torch.autograd.grad(loss, x)[0] for loss in (got, want)))


def test_a_number_as_lam_is_compiled_once_and_once_more_as_a_variable():
    counter = CompileCounterWithBackend("aot_eager")
    function = torch.compile(lambda x, lam, perm: mixup(x, lam, perm), fullgraph=True, backend=counter)
    x, perm = torch.randn(6, 5), torch.randperm(6)
    for lam in (0.5, 0.25, 0.125, 0.75, 0.3):
        torch.testing.assert_close(function(x, lam, perm), mixup(x, lam, perm))
    assert counter.frame_count <= 2


def test_changing_batch_sizes_are_compiled_once_and_once_more_as_a_variable():
    counter = CompileCounterWithBackend("aot_eager")
    function = torch.compile(everything, fullgraph=True, backend=counter)
    for batch in sized((4, 6, 9, 5), (4, 6, 9)):
        x, y = torch.randn(batch, 5), torch.randn(batch, 5)
        lam, perm = torch.rand(batch), torch.randperm(batch)
        torch.testing.assert_close(function(x, y, lam, perm), everything(x, y, lam, perm))
    assert counter.frame_count <= 2


@compiled
def test_channels_last_stays_channels_last():
    function = torch.compile(
        lambda s, t: boundary_hinge_loss(s, t, 1.0, "none") * 2, fullgraph=True, backend="aot_eager"
    )
    s, t = leaf(channels_last(torch.randn(2, 3, 4, 5))), channels_last(torch.randn(2, 3, 4, 5))
    loss = function(s, t)
    assert loss.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(loss, 2 * boundary_hinge_loss(s, t, 1.0, "none"))


@pytest.mark.backends("cpp")
def test_a_change_of_backend_is_seen():
    graphs = []

    def recorder(graph, _):
        graphs.append([str(node.target) for node in graph.graph.nodes if node.op == "call_function"])
        return graph.forward

    function = torch.compile(l1_discrepancy, fullgraph=True, backend=recorder)
    s, t = torch.randn(6), torch.randn(6)
    function(s, t)
    with backends.use_backend("reference"):
        function(s, t)
    assert any("dfad_fast" in target for target in graphs[0])
    assert not any("dfad_fast" in target for target in graphs[1])


def test_autocast():
    @torch.compile(fullgraph=True, backend="aot_eager")
    def losses(s, t):
        with torch.autocast(s.device.type, dtype=torch.bfloat16):
            return l1_discrepancy(s, t), boundary_hinge_loss(s, t), CALLS["kl"].function(s, t)

    s, t = torch.randn(6, 4).bfloat16(), torch.randn(6, 4).bfloat16()
    wide = [f(s.float(), t.float()) for f in (l1_discrepancy, boundary_hinge_loss, CALLS["kl"].function)]
    for loss, want in zip(losses(s, t), wide, strict=True):
        assert loss.dtype == torch.float32
        torch.testing.assert_close(loss, want)


def test_errors_keep_their_text():
    function = torch.compile(l1_discrepancy, fullgraph=True, backend="aot_eager")
    with pytest.raises(Exception, match=r"student and teacher must have the same shape"):
        function(torch.zeros(2, 3), torch.zeros(3, 2))


@pytest.mark.backends("cpp")
def test_the_choice_of_a_backend_is_traced_for_a_gpu_too(monkeypatch):
    """Nothing in it may call the extension, which torch.compile cannot look into."""
    monkeypatch.setattr(backends, "_has_cuda_kernels", True)

    @torch.compile(fullgraph=True, backend="eager")
    def is_served(x):
        return x + (backends.choice("cuda")[0] == "cpp")

    assert is_served(torch.zeros(())) == 1
