"""How often the CUDA kernels are launched, counted where fibers run them; what a launch counts its blocks in; what a
block takes."""

import ctypes

import pytest
import torch

from dfad_fast.ops import (
    boundary_hinge_loss,
    boundary_hinge_loss_with_agreement,
    interpolated_l1,
    kl_discrepancy,
    l1_discrepancy,
    mixup,
)
from tests.cuda.build_shim import shim_library

from .helpers import leaf

pytestmark = pytest.mark.backends("cuda-shim")
SHAPES = pytest.mark.parametrize("shape", [(8, 6), (3, 5001)])  # one block; several


def rows(x):
    """lam and perm."""
    return torch.rand(len(x)), torch.arange(len(x)).roll(1)


LOSSES = {
    "hinge": lambda s, t, reduction: boundary_hinge_loss(s, t, 1.0, reduction),
    "hinge, a list": lambda s, t, _: boundary_hinge_loss(
        [s, s * 2, s[:1]], [t.detach()] * 2 + [t[:1].detach()]
    ),
    "agreement": lambda s, t, _: boundary_hinge_loss_with_agreement([s, s * 2], [t.detach()] * 2)[0],
    "l1": lambda s, t, reduction: l1_discrepancy(s, t, reduction),
    "kl": lambda s, t, reduction: kl_discrepancy(s, t, 2.0, reduction),
    "interpolated": lambda s, t, reduction: interpolated_l1(s, t, *rows(s), reduction),
    "interpolated, student": lambda s, t, reduction: interpolated_l1(s, t.detach(), *rows(s), reduction),
    "mixup": lambda s, t, _: mixup(s, *rows(s)),
}


def launches(function):
    """How many the function makes, and its result."""
    before = shim_library().cuda_shim_launches()
    result = function()
    return shim_library().cuda_shim_launches() - before, result


@SHAPES
@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_one_launch_forward_and_one_backward(name, reduction, shape):
    s, t = leaf(torch.randn(shape)), leaf(torch.randn(shape))
    forward, loss = launches(lambda: LOSSES[name](s, t, reduction))
    backward, _ = launches(loss.sum().backward)
    assert (forward, backward) == (1, 1)


# Launches forward and backward. A tensor that lies across its student is copied first, each way.
ACROSS = {
    "hinge": (2, 1),
    "l1": (2, 1),
    "kl": (2, 3),
    "interpolated": (2, 3),
    "interpolated, student": (2, 2),
}


@pytest.mark.parametrize("name", ACROSS)
def test_a_tensor_that_lies_across_the_student_costs_a_launch(name):
    s, t = leaf(torch.randn(2, 9, 4, 5)), leaf(torch.randn(2, 9, 4, 5).to(memory_format=torch.channels_last))
    forward, loss = launches(lambda: LOSSES[name](s, t, "mean"))
    backward, _ = launches(loss.backward)
    assert (forward, backward) == ACROSS[name]


def test_a_gradient_and_a_residual_that_lie_across_are_transposed():
    """A launch for each; a copy by torch would be none of ours."""
    x = leaf(torch.randn(2, 9, 4, 5))
    residual = torch.randn(2, 9, 4, 5).to(memory_format=torch.channels_last)
    counts = []
    for beside in (residual.contiguous(), residual):
        forward, (out, _) = launches(
            lambda beside=beside: torch.ops.dfad_fast.batch_norm_act(
                x, beside, None, None, None, False, 0.0, 1e-5
            )
        )
        backward, _ = launches(lambda out=out, beside=beside: out.backward(torch.ones_like(beside)))
        counts.append((forward, backward))
    straight, across = counts
    assert across == (straight[0] + 1, straight[1] + 1)


def test_the_inverse_of_many_rows_is_a_launch():
    s, t = leaf(torch.randn(1025, 2)), leaf(torch.randn(1025, 2))
    for name in ("mixup", "interpolated"):
        forward, out = launches(lambda name=name: LOSSES[name](s, t, "mean"))
        backward, _ = launches(out.sum().backward)
        assert (forward, backward) == (1, 2)


class Launch(ctypes.Structure):
    """A launch, as in tests/cuda/shim/launcher.h."""

    _fields_ = (
        ("kernel", ctypes.c_void_p),
        ("blocks", ctypes.c_uint),
        ("threads", ctypes.c_uint),
        ("dynamic_shared", ctypes.c_size_t),
        ("count", ctypes.c_size_t),
        ("arguments", ctypes.POINTER(ctypes.c_void_p)),
    )


@pytest.fixture
def note_launches():
    """In place of every launch its number of blocks is noted, from the call on; nothing is computed then."""
    blocks = []

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(Launch))
    def note(launch):
        blocks.append(launch.contents.blocks)
        return 0

    def begin():
        shim_library().cuda_shim_set_launcher(note)
        return blocks

    yield begin
    shim_library().cuda_shim_set_launcher(None)


@pytest.mark.parametrize(("elements", "blocks"), [(18, 128), (20, 512), (21, 512), (22, 512), (26, 8192)])
def test_few_elements_still_are_many_blocks(elements, blocks, note_launches):
    x = torch.tensor(1.0).expand(1 << elements)
    noted = note_launches()
    l1_discrepancy(x, x)
    mixup(x[None], torch.tensor(0.5), torch.tensor([0]))
    assert noted == [blocks, blocks]


def test_each_element_is_taken_once_where_a_warp_takes_several_tiles():
    elements = (1 << 21) + 3
    s, t = torch.tensor([0.75]), torch.tensor([0.25])
    assert l1_discrepancy(s.expand(elements), t.expand(elements), "sum") == 0.5 * elements


@pytest.fixture
def use_stream():
    """Sets the current stream's number, and whether it is being captured."""
    yield shim_library().cuda_shim_use_stream
    shim_library().cuda_shim_use_stream(0, False)


def mean_distance(*shape):
    """The mean distance between two random tensors, by the op and by torch."""
    s, t = torch.randn(shape), torch.randn(shape)
    return l1_discrepancy(s, t), (s - t).abs().mean()


def test_launches_of_one_stream_share_a_counter_that_each_sets_back(use_stream):
    for stream in (1, 2, 1):
        use_stream(stream, False)
        for rows in (3, 2, 3):
            torch.testing.assert_close(*mean_distance(rows, 5001))


@pytest.fixture
def counters_of():
    """The addresses of the counters that calls of l1_discrepancy, of several blocks, hand to their launches."""
    found = []

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(Launch))
    def note(launch):
        target = ctypes.cast(launch.contents.arguments[2], ctypes.POINTER(ctypes.c_uint64))
        found.append(target[2])  # SumTarget: partials, first, counter
        return 0

    def noted(calls):
        found.clear()
        shim_library().cuda_shim_set_launcher(note)
        for _ in range(calls):
            l1_discrepancy(torch.zeros(5001), torch.zeros(5001))
        shim_library().cuda_shim_set_launcher(None)
        return list(found)

    yield noted
    shim_library().cuda_shim_set_launcher(None)


def test_launches_share_a_counter_only_where_they_cannot_run_at_once(use_stream, counters_of):
    use_stream(11, False)
    first, again = counters_of(2)
    use_stream(12, False)
    (other,) = counters_of(1)
    use_stream(11, True)
    captured = counters_of(3)
    use_stream(11, False)
    assert [first, again] == counters_of(1) * 2
    assert len({first, other, *captured}) == 5
    assert 0 not in {first, other, *captured}


def test_captured_launches_have_counters_of_their_own_and_are_right_when_those_run_out(
    use_stream, note_launches
):
    use_stream(0, True)
    torch.testing.assert_close(*mean_distance(3, 5001))
    x = torch.zeros(5001)
    noted = note_launches()
    for _ in range(4096):
        l1_discrepancy(x, x)
    assert noted == [3] * 4096
    shim_library().cuda_shim_set_launcher(None)
    for _ in range(2):
        torch.testing.assert_close(*mean_distance(3, 5001))
