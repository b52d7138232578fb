"""pack_signs: what the bits are, that they do for the loss what the teacher does, and what they weigh."""

import copy
import math
import pickle

import pytest
import torch

from dfad_fast.ops import PackedSigns, boundary_hinge_loss, boundary_hinge_loss_with_agreement, pack_signs
from tests import under_test
from tests.under_test import sized

from .helpers import DTYPES, LAYOUTS, REDUCTIONS, SHAPE, assert_same, leaf, memory_of_others

SIZES = (0, 1, 7, 8, 9, 31, 32, 33, 63, 64, 65, 255, 257, 4095, 4096, 4097)


def bits_by_hand(flat):
    """Bit k % 8 of byte k // 8, one element at a time."""
    values = [0] * -(-len(flat) // 8)
    for k, t in enumerate(flat):
        values[k // 8] |= (not t <= 0) << (k % 8)
    return values


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES)
def test_bits(dtype, size):
    t = torch.randn(size).to(dtype)
    packed = pack_signs(t)
    assert packed.bits.dtype == torch.uint8
    assert packed.bits.tolist() == bits_by_hand(t.tolist())
    assert packed.nbytes == -(-size // 8)
    assert torch.equal(packed.unpack(), t > 0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_signs_of_edge_values(dtype):
    t = torch.tensor([0.0, -0.0, math.nan, math.inf, -math.inf, 1e-3, -1e-3], dtype=dtype)
    on = [False, False, True, True, False, True, False]
    assert pack_signs(t).unpack().tolist() == on
    tiny = torch.finfo(dtype).tiny / 2
    assert pack_signs(torch.tensor([tiny, -tiny], dtype=dtype)).unpack().tolist() == [True, False]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout):
    t = layout(torch.randn(SHAPE))
    packed = pack_signs(t)
    dense = torch.empty_like(t).copy_(t)
    assert packed.shape == t.shape
    assert packed.strides == dense.stride()
    in_memory = torch.as_strided(dense, (t.numel(),), (1,))
    assert packed.bits.tolist() == bits_by_hand(in_memory.tolist())
    assert torch.equal(packed.unpack(), t > 0)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("student_layout", LAYOUTS)
def test_serve_the_loss_as_the_teacher_does(layout, student_layout):
    """To the bit, but for a sum of compiled GPU kernels, whose order depends on the layout of all operands."""
    s, t = leaf(student_layout(torch.randn(SHAPE))), layout(torch.randn(SHAPE))
    compiled_for_gpu = (
        s.is_cuda or under_test.backend.startswith("cuda") or under_test.backend == "triton-ptx"
    )
    for reduction in sized(REDUCTIONS, ("mean",)):
        results = []
        for teacher in (t, pack_signs(t)):
            loss, agreement = boundary_hinge_loss_with_agreement(s, teacher, 0.75, reduction)
            results.append((loss, agreement, *torch.autograd.grad(loss.sum(), s)))
        if compiled_for_gpu and reduction != "none":
            torch.testing.assert_close(results[1][0], results[0][0], rtol=1e-6, atol=0)
            results = [result[1:] for result in results]
        for plain, packed in zip(*results, strict=True):
            assert_same(packed, plain)


@pytest.mark.parametrize("size", sized((1, 7, 8, 9, 4097, 65537), (1, 7, 8, 9, 4097)))
@pytest.mark.parametrize("dtype", DTYPES)
def test_serve_the_loss_at_every_size_and_dtype(size, dtype):
    s, t = leaf(torch.randn(size).to(dtype)), torch.randn(size)
    packed = boundary_hinge_loss(s, pack_signs(t))
    plain = boundary_hinge_loss(s, t.to(torch.bfloat16).to(dtype))
    assert packed.dtype == dtype, "bits have no dtype to promote to"
    assert torch.equal(packed, plain)
    assert torch.equal(*(torch.autograd.grad(loss, s)[0] for loss in (packed, plain)))


def test_bits_at_every_address():
    """Bytes at any offset in a bigger buffer of ones, of which none is read or written."""
    s, t = leaf(torch.randn(77)), torch.randn(77)
    packed, want = pack_signs(t), boundary_hinge_loss(s, t, reduction="sum")
    (want_grad,) = torch.autograd.grad(want, s)
    for i in range(sized(41, 9)):
        buffer = torch.full((i + 10 + 41,), 255, dtype=torch.uint8)
        moved = PackedSigns(buffer[i : i + 10].copy_(packed.bits), packed.shape, packed.strides)
        before = buffer.clone()
        loss = boundary_hinge_loss(s, moved, reduction="sum")
        assert torch.equal(loss, want)
        assert torch.equal(torch.autograd.grad(loss, s)[0], want_grad)
        assert torch.equal(buffer, before)


def test_in_lists_beside_plain_teachers():
    students = [leaf(torch.randn(4, 3, 5, 5)), leaf(torch.randn(4, 7)), leaf(torch.randn(2))]
    teachers = [torch.randn(s.shape) for s in students]
    weights = [1.0, 0.5, 3.0]
    plain = boundary_hinge_loss(students, teachers, weights=weights)
    mixed = boundary_hinge_loss(
        students, [pack_signs(teachers[0]), teachers[1], pack_signs(teachers[2])], weights=weights
    )
    assert torch.equal(plain, mixed)
    for a, b in zip(*(torch.autograd.grad(loss, students) for loss in (plain, mixed)), strict=True):
        assert torch.equal(a, b)


@memory_of_others
@pytest.mark.parametrize("layout", LAYOUTS)
def test_pickle_and_copies(layout):
    s, t = torch.randn(SHAPE), layout(torch.randn(SHAPE))
    packed = pack_signs(t)
    # From signs too: on a GPU, Triton sums those of features in another order.
    want = boundary_hinge_loss(s, packed)
    for other in (
        pickle.loads(pickle.dumps(packed)),
        copy.deepcopy(packed),
        copy.copy(packed),
        packed.to(packed.device),
    ):
        assert other.shape == packed.shape
        assert other.strides == packed.strides
        assert_same(boundary_hinge_loss(s, other), want)
    assert copy.deepcopy(packed).bits.data_ptr() != packed.bits.data_ptr()


def test_weigh_a_32nd_of_float32_features():
    t = torch.randn(64, 32, 8, 8)
    assert pack_signs(t).nbytes * 32 == t.nbytes


def test_carry_no_gradient():
    t = leaf(torch.randn(9))
    assert not pack_signs(t).bits.requires_grad


def test_repr_names_shape_and_device():
    text = repr(pack_signs(torch.randn(2, 3)))
    assert "(2, 3)" in text
    assert "cpu" in text or "cuda" in text


def test_packed_stages_without_reduction():
    """A list of losses, each what its features give."""
    students = [torch.randn(3, 4), torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)]
    teachers = [torch.randn_like(s) for s in students]
    got = boundary_hinge_loss(students, [pack_signs(t) for t in teachers], reduction="none")
    for ours, features in zip(got, boundary_hinge_loss(students, teachers, reduction="none"), strict=True):
        assert torch.equal(ours, features)
