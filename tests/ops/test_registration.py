"""What the dispatcher is told about the ops: schema, fake kernels, autograd, torch.compile, second derivatives."""

import pytest
import torch
from torch.library import opcheck

from dfad_fast import backends
from dfad_fast.ops import boundary_hinge_loss, l1_discrepancy, mixup, virtual_batch

from .helpers import LAYOUTS, LOSSES, REDUCTIONS, SHAPE, leaf

ops = torch.ops.dfad_fast


def samples():
    x, y = leaf(torch.randn(SHAPE)), torch.randn(SHAPE)
    last = x.detach().to(memory_format=torch.channels_last).requires_grad_()
    perm, per_sample = torch.randperm(SHAPE[0]), torch.rand(SHAPE[0])
    for reduction in REDUCTIONS:
        yield "l1_discrepancy", (x, leaf(y), reduction)
        yield "l1_discrepancy", (last, y.half(), reduction)
        yield "boundary_hinge_loss", (x, y, 0.5, reduction)
        yield "boundary_hinge_loss", (last, y.bfloat16(), 0.5, reduction)
    yield "l1_discrepancy", (x, y, "mean", torch.float64)
    yield "boundary_hinge_loss_stages", ([x, last, y], [y, y, y], [1.0, 0.5, 2.0], 1.0, "mean")
    yield "mixup", ([x, y], torch.tensor(0.3, dtype=torch.float64), perm)
    yield "mixup", ([last, leaf(torch.randn(SHAPE[0]))], per_sample, perm)
    grad, student = torch.tensor(2.0), x.detach()
    yield "l1_discrepancy_backward", (grad, student, y, "mean", True, True)
    yield "l1_discrepancy_backward", (grad, student, y.half(), "sum", False, True)
    yield "boundary_hinge_loss_backward", (grad, [student, last.detach()], [y, y], [1.0, 2.0], 1.0, "mean")
    yield "mixup_backward", ([student, last.detach()], per_sample, perm)


@pytest.mark.parametrize("index", range(16))
def test_opcheck(index):
    all_samples = list(samples())
    for name, arguments in all_samples[index::16]:
        opcheck(getattr(ops, name).default, arguments)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_fake_strides_are_the_real_ones(layout):
    from torch._subclasses.fake_tensor import FakeTensorMode

    x, y = layout(torch.randn(SHAPE)), torch.randn(SHAPE)
    perm = torch.randperm(SHAPE[0])
    calls = [
        lambda x, y, perm: [ops.l1_discrepancy(x, y, "none")],
        lambda x, y, perm: [ops.boundary_hinge_loss(x, y, 1.0, "none")],
        lambda x, y, perm: ops.l1_discrepancy_backward(y, x, y, "none", True, True),
        lambda x, y, perm: ops.boundary_hinge_loss_backward(y, [x], [y], [1.0], 1.0, "none"),
        lambda x, y, perm: ops.mixup([x], torch.tensor(0.5), perm),
    ]
    for call in calls:
        real = call(x, y, perm)
        with FakeTensorMode() as mode:
            fake = call(*(mode.from_tensor(v) for v in (x, y, perm)))
        assert [r.stride() for r in real] == [f.stride() for f in fake]
        assert [r.dtype for r in real] == [f.dtype for f in fake]


@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_meta_tensors(backend):
    with backends.use_backend(backend):
        check_meta_tensors()


def check_meta_tensors():
    s = torch.randn(4, 3, device="meta", dtype=torch.float16)
    t = torch.randn(4, 3, device="meta")
    assert l1_discrepancy(s, t).dtype == torch.float32
    assert boundary_hinge_loss(s, t, reduction="none").shape == (4, 3)
    assert mixup(s, 0.5, torch.empty(4, dtype=torch.int64, device="meta")).shape == (4, 3)


def step(x, y, lam, perm):
    """Every public op once, in one graph."""
    mixed, labels = virtual_batch(x, y, lam, perm)
    loss = l1_discrepancy(mixed * 2, labels) + boundary_hinge_loss([x, x], [y, y], 0.5, "mean", [0.1, 0.2])
    return loss + boundary_hinge_loss(x, y) + mixup(x, lam, perm).square().mean()


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compile_fullgraph(backend):
    torch._dynamo.reset()
    compiled = torch.compile(step, fullgraph=True, backend=backend, dynamic=False)
    x, y = leaf(torch.randn(6, 5)), torch.randn(6, 5)
    lam, perm = torch.rand(6), torch.randperm(6)
    loss = compiled(x, y, lam, perm)
    loss.backward()
    got = x.grad.clone()
    x.grad = None
    want = step(x, y, lam, perm)
    want.backward()
    torch.testing.assert_close(loss, want)
    torch.testing.assert_close(got, x.grad)


def test_compile_sees_a_change_of_backend():
    torch._dynamo.reset()
    graphs = []

    def recorder(graph, _):
        graphs.append([str(node.target) for node in graph.graph.nodes if node.op == "call_function"])
        return graph.forward

    compiled = torch.compile(l1_discrepancy, fullgraph=True, backend=recorder)
    s, t = torch.randn(6), torch.randn(6)
    compiled(s, t)
    with backends.use_backend("reference"):
        compiled(s, t)
    assert any("dfad_fast" in target for target in graphs[0])
    assert not any("dfad_fast" in target for target in graphs[1])


def test_compile_autocast():
    torch._dynamo.reset()

    @torch.compile(fullgraph=True, backend="aot_eager")
    def loss(s, t):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return l1_discrepancy(s, t)

    s, t = torch.randn(6).bfloat16(), torch.randn(6).bfloat16()
    assert loss(s, t).dtype == torch.float32
    torch.testing.assert_close(loss(s, t), l1_discrepancy(s.float(), t.float()))


def first_gradients():
    x, y = leaf(torch.randn(6)), leaf(torch.randn(6))
    stages = boundary_hinge_loss([x, x], [y, y])
    mixed = mixup(x, 0.3, torch.randperm(6)).square().sum()
    losses = {name: op(x, y) for name, (op, _) in LOSSES.items()} | {"stages": stages, "mixup": mixed}
    return {name: (loss, x) for name, loss in losses.items()}


@pytest.mark.parametrize("name", ["boundary_hinge_loss", "l1_discrepancy", "stages", "mixup"])
def test_double_backward_raises(name):
    loss, x = first_gradients()[name]
    (grad,) = torch.autograd.grad(loss, x, create_graph=True)
    assert grad.requires_grad
    op = "boundary_hinge_loss" if name == "stages" else name
    with pytest.raises(NotImplementedError, match=rf"^{op}: double backward is not implemented.*'reference'"):
        grad.sum().backward()


def test_double_backward_through_l1_with_respect_to_grad_output_raises():
    s, t, g = leaf(torch.randn(6)), torch.randn(6), leaf(torch.tensor(1.0))
    (grad,) = torch.autograd.grad(l1_discrepancy(s, t), s, grad_outputs=g, create_graph=True)
    with pytest.raises(NotImplementedError, match="double backward"):
        torch.autograd.grad(grad.sum(), g)


@pytest.mark.parametrize("name", ["boundary_hinge_loss", "l1_discrepancy", "stages", "mixup"])
def test_reference_can_be_differentiated_twice(name):
    with backends.use_backend("reference"):
        loss, x = first_gradients()[name]
        (grad,) = torch.autograd.grad(loss, x, create_graph=True)
        (second,) = torch.autograd.grad(grad.square().sum(), x)
        assert second.isfinite().all()
        assert second.any() == (name != "l1_discrepancy"), "only L1 is linear between its ties"


def test_forward_mode_raises_instead_of_dropping_the_tangent():
    import torch.autograd.forward_ad as fwad

    x, y = torch.randn(6), torch.randn(6)
    with fwad.dual_level():
        dual = fwad.make_dual(x, torch.ones(6))
        for call in (lambda: l1_discrepancy(dual, y), lambda: boundary_hinge_loss(dual, y)):
            with pytest.raises(RuntimeError, match="jvp is not implemented"):
                call()
