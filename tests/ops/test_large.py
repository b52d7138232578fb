"""More than 2^31 elements, and offsets beyond 2^31: indices of 32 bits would wrap."""

import pytest
import torch

from dfad_fast.ops import PackedSigns, boundary_hinge_loss, l1_discrepancy, mixup, pack_signs

from .helpers import LOSSES, check_against_reference

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.backends("cpp")]
SIZE = 2**31 + 13


@pytest.fixture(autouse=True)
def _plain_empties(_poisoned_empties):
    """Filling gigabytes takes its time."""
    torch.use_deterministic_algorithms(False)


@pytest.mark.memory(11)
def test_the_hinge_over_more_elements_than_an_int_holds():
    """All neurons on; but for the last five the student is beyond the margin."""
    s = torch.full((SIZE,), 2.0, dtype=torch.float16)
    s[-5:] = 0.5
    packed = pack_signs(s)
    assert packed.bits[:-1].eq(255).all()
    assert packed.bits[-1] == 0b11111
    s.requires_grad_()
    loss = boundary_hinge_loss(s, packed, reduction="sum")
    assert loss == 5 * 0.25
    loss.backward()
    assert s.grad[-5:].tolist() == [-1] * 5
    assert not s.grad[:-5].view(torch.int64).any()


@pytest.mark.memory(1)
def test_sums_over_expanded_tensors():
    """The tensors have one element in memory."""
    s, t = torch.tensor([0.75], dtype=torch.float64), torch.tensor([0.25], dtype=torch.float64)
    assert l1_discrepancy(s.expand(SIZE), t.expand(SIZE), "sum") == 0.5 * SIZE


@pytest.mark.memory(10)
def test_mixup_of_long_rows():
    x = torch.zeros(2, SIZE // 2 + 1, dtype=torch.float16)
    x[0, -1], x[1, -1], x[1, 0] = 1, 4, 8
    mixed = mixup(x, torch.tensor([0.5, 0.25]), torch.tensor([1, 0]))
    assert mixed[:, -1].tolist() == [2.5, 1.75]
    assert mixed[:, 0].tolist() == [4, 2]
    assert mixed.count_nonzero() == 4


@pytest.fixture(scope="module")
def corners():
    """Few elements far apart: rows 2^19 elements long, of which only the first seven are ever touched."""
    return torch.zeros(2**12 + 3, 2**19, dtype=torch.float16)


@pytest.mark.memory(2)
@pytest.mark.parametrize("name", LOSSES)
def test_offsets_beyond_an_int(name, corners):
    s = corners[:, :7]
    s.copy_(torch.randn(s.shape))
    assert s.stride(0) * (s.shape[0] - 1) > 2**31
    check_against_reference(name, s, torch.randn(s.shape), "none")
    check_against_reference(name, torch.randn(s.shape), s, "mean")


@pytest.mark.memory(2)
def test_offsets_beyond_an_int_for_the_rest(corners):
    x = corners[:, :7]
    x.copy_(torch.randn(x.shape))
    assert torch.equal(pack_signs(x).unpack(), x > 0)
    perm = torch.arange(x.shape[0]).roll(1)
    assert torch.equal(mixup(x, 0.0, perm), x[perm])
    packed = PackedSigns(pack_signs(x).bits, x.shape, (7, 1))
    assert torch.equal(boundary_hinge_loss(x, packed), boundary_hinge_loss(x.contiguous(), packed))
