"""What a step costs beside its arithmetic: dispatched ops, allocations, and what is kept for backward."""

import weakref

import pytest
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from dfad_fast.ops import (
    batch_norm_statistics_loss,
    boundary_hinge_loss,
    boundary_hinge_loss_with_agreement,
    channel_statistics,
    interpolated_l1,
    kl_discrepancy,
    l1_discrepancy,
    mixup,
    pack_signs,
    virtual_batch,
)

from .helpers import compiled, leaf, mixing_of

pytestmark = compiled


@pytest.fixture(autouse=True)
def _plain_empties(_poisoned_empties):
    """Filling them is no part of the ops."""
    torch.use_deterministic_algorithms(False)


# Each step as a function of two tensors, and the op that serves it.
STEPS = {
    "hinge": (lambda x, y: boundary_hinge_loss(x, y), "boundary_hinge_loss"),
    "hinge_list": (lambda x, y: boundary_hinge_loss([x, y], [y.detach(), x.detach()]), "boundary_hinge_loss"),
    "hinge_none": (lambda x, y: boundary_hinge_loss(x, y, 1.0, "none"), "boundary_hinge_loss"),
    "agreement": (lambda x, y: boundary_hinge_loss_with_agreement([x], [y])[0], "boundary_hinge_loss"),
    "l1": (lambda x, y: l1_discrepancy(x, y), "l1_discrepancy"),
    "kl": (lambda x, y: kl_discrepancy(x, y, 2.0), "kl_discrepancy"),
    "channel_statistics": (lambda x, y: channel_statistics(x), "channel_statistics"),
    "mixup": (lambda x, y: mixup(x, *mixing_of(x)), "mixup"),
    "virtual_batch": (lambda x, y: virtual_batch(x, y, *mixing_of(x)), "mixup"),
    "interpolated_l1": (lambda x, y: interpolated_l1(x, y, *mixing_of(x)), "interpolated_l1"),
}
ONE_SIDED = ("hinge", "hinge_none", "agreement", "channel_statistics", "mixup")
NAMES = pytest.mark.parametrize("name", STEPS)


def inputs():
    return leaf(torch.randn(8, 6)), leaf(torch.randn(8, 6))


def outputs_and_grads(name):
    x, y = inputs()
    outputs = STEPS[name][0](x, y)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    return outputs, [torch.ones_like(o) for o in outputs], [x] if name in ONE_SIDED else [x, y]


class Recorder(TorchDispatchMode):
    """Names of the ops that are dispatched."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func._schema.name)
        return func(*args, **(kwargs or {}))


VIEWS = {"aten::detach", "aten::alias", "aten::select", "aten::_to_copy"}


@NAMES
def test_one_op_forward_and_one_backward(name):
    step, op = STEPS[name]
    x, y = inputs()
    step(x, y)  # draws lam and perm, once
    with Recorder() as forward:
        step(x, y)
    assert [n for n in forward.names if n not in VIEWS] == [f"dfad_fast::{op}"]

    outputs, grads, sources = outputs_and_grads(name)
    with Recorder() as backward:
        torch.autograd.grad(outputs, sources, grads)
    assert [n for n in backward.names if n not in VIEWS] == [f"dfad_fast::{op}_backward"]


def allocations(function):
    """Sizes in bytes of what torch's allocator gives out while the function runs; and what it returned."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        result = function()
    events = record.profiler.kineto_results.events()
    return sorted(e.nbytes() for e in events if e.name() == "[memory]" and e.nbytes() > 0), result


def given_out(size, device):
    """Bytes that torch's allocator gives for so many; a GPU's rounds up."""
    return -(-size // CUDA_BLOCK) * CUDA_BLOCK if device == "cuda" else size


CUDA_BLOCK = 512
# Less than a block of memory each here: sums of several blocks.
SCRATCH_ON_CUDA = {
    "hinge_list": (1, 0),
    "agreement": (1, 0),
    "channel_statistics": (1, 0),
}
TENSOR, LOSS, SHARE, BITS, STATISTICS, MOMENTS = 8 * 6 * 4, 4, 4, 6, 5 * 8 * 4, 2 * 6 * 4
ALLOCATED = {
    "hinge": ([LOSS, BITS], [TENSOR]),
    "hinge_list": ([LOSS, BITS, BITS], [TENSOR, TENSOR]),
    "hinge_none": ([TENSOR, BITS], [TENSOR]),
    "agreement": ([LOSS, SHARE, BITS], [TENSOR]),
    "l1": ([LOSS, 32 + BITS], [TENSOR, TENSOR]),  # two planes of bits, each from a sector on
    "kl": ([LOSS, STATISTICS], [TENSOR, TENSOR]),
    "channel_statistics": ([MOMENTS], [TENSOR]),
    "mixup": ([TENSOR], [TENSOR]),
    "virtual_batch": ([TENSOR, TENSOR], [TENSOR, TENSOR]),
    "interpolated_l1": ([LOSS], [TENSOR, TENSOR]),
}


@pytest.mark.backends("cpp")
@NAMES
def test_nothing_is_allocated_but_results_and_what_backward_needs(name, device):
    step, _ = STEPS[name]
    x, y = inputs()
    step(x, y)
    scratch = SCRATCH_ON_CUDA.get(name, (0, 0)) if device == "cuda" else (0, 0)
    forward, backward = (
        sorted(given_out(size, device) for size in [*sizes, *[1] * further])
        for sizes, further in zip(ALLOCATED[name], scratch, strict=True)
    )
    assert allocations(lambda: step(x, y))[0] == forward
    outputs, grads, sources = outputs_and_grads(name)
    assert allocations(lambda: torch.autograd.grad(outputs, sources, grads))[0] == backward


def saved_by(function):
    kept = []

    def keep(x):
        kept.append(x)
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        result = function()
    return kept, result


def test_the_hinge_keeps_the_student_and_one_bit_per_element():
    s, t = leaf(torch.randn(64, 32, 4, 4)), torch.randn(64, 32, 4, 4)
    kept, _ = saved_by(lambda: boundary_hinge_loss(s, t))
    student, bits = sorted(kept, key=lambda x: -x.nbytes)
    assert student.data_ptr() == s.data_ptr()
    assert bits.nbytes * 32 == t.nbytes


def test_packed_signs_are_kept_as_they_are():
    s, packed = leaf(torch.randn(50)), pack_signs(torch.randn(50))
    kept, _ = saved_by(lambda: boundary_hinge_loss(s, packed))
    assert {x.data_ptr() for x in kept} == {s.data_ptr(), packed.bits.data_ptr()}


def test_stages_without_gradient_keep_nothing():
    s, frozen, t = leaf(torch.randn(80)), torch.randn(800), torch.randn(80)
    kept, _ = saved_by(lambda: boundary_hinge_loss([s, frozen], [t, torch.randn(800)]))
    assert sorted(x.nbytes for x in kept) == [10, 320]


def test_nothing_is_kept_without_gradients():
    s, t = torch.randn(50, 2), torch.randn(50, 2)
    for step, _ in STEPS.values():
        assert saved_by(lambda step=step: step(s, t))[0] == []


def test_channel_statistics_keep_the_features_and_themselves():
    x = leaf(torch.randn(8, 6))
    kept, statistics = saved_by(lambda: channel_statistics(x))
    assert {k.data_ptr() for k in kept} == {x.data_ptr(), statistics.data_ptr()}


def test_the_loss_of_statistics_is_one_op_over_all_features():
    features = [leaf(torch.randn(4, c)) for c in (3, 5)]
    running = [torch.rand(c) for c in (3, 5)]
    with Recorder() as forward:
        loss = batch_norm_statistics_loss(features, running, running)
    with Recorder() as backward:
        loss.backward()
    assert [n for n in forward.names + backward.names if n.startswith("dfad_fast::")] == [
        "dfad_fast::channel_statistics",
        "dfad_fast::channel_statistics_backward",
    ]


@pytest.mark.parametrize(("name", "count"), [("mixup", 2), ("virtual_batch", 2), ("l1", 1), ("kl", 3)])
def test_mixtures_and_l1_keep_no_tensor_of_the_batch_and_kl_no_copies(name, count):
    x, y = inputs()
    kept, _ = saved_by(lambda: STEPS[name][0](x, y))
    assert len(kept) == count
    of_the_batch = {k.data_ptr() for k in kept} & {x.data_ptr(), y.data_ptr()}
    assert len(of_the_batch) == (2 if name == "kl" else 0)


def test_the_teacher_is_freed_before_backward():
    s, t = leaf(torch.randn(50)), torch.randn(50)
    alive = weakref.ref(t)
    loss = boundary_hinge_loss([s], [t])
    del t
    assert alive() is None
    loss.backward()
    assert s.grad is not None


@pytest.mark.backends("cpp")
def test_the_peak_is_the_students_gradient_and_the_bits(device):
    """Where eager PyTorch holds several tensors of the student's size at once."""
    s, t = leaf(torch.randn(1 << 20)), torch.randn(1 << 20)

    def step():
        boundary_hinge_loss(s, t).backward()

    sizes, _ = allocations(step)
    # On a GPU also a sum per block of 2,048 elements, and each allocation rounded up.
    scalars = 12 * CUDA_BLOCK if device == "cuda" else 64
    assert sum(sizes) <= s.nbytes + s.nbytes // 32 + scalars
