"""torch.export of a module with each op; the program runs, and its batch may vary."""

import io

import pytest
import torch
from torch.export import Dim

from .helpers import compiled
from .samples import CALLS


class Calls(torch.nn.Module):
    def __init__(self, name):
        super().__init__()
        self.name = name

    def forward(self, s, t):
        return CALLS[self.name].function(s * 2, t)


def inputs():
    return torch.randn(4, 5), torch.randn(4, 5)


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("name", CALLS)
def test_the_program_gives_the_same(name, strict):
    module = Calls(name)
    program = torch.export.export(module, inputs(), strict=strict)
    other = inputs()
    torch.testing.assert_close(program.module()(*other), module(*other))


class Mixes(torch.nn.Module):
    """What a deployed training step would hold: lam and perm are inputs, the batch varies."""

    def forward(self, x, y, lam, perm):
        from dfad_fast.ops import boundary_hinge_loss, interpolated_l1, kl_discrepancy, mixup, pack_signs

        mixed = mixup(x, lam, perm)
        signs = boundary_hinge_loss(mixed, pack_signs(y))
        return interpolated_l1(mixed, y, lam, perm) + signs + kl_discrepancy(mixed, y)


@compiled
@pytest.mark.parametrize("strict", [False, True])
def test_a_varying_batch_saved_and_loaded(strict):
    batch = Dim("batch", min=2, max=64)

    def arguments(n):
        return torch.randn(n, 5), torch.randn(n, 5), torch.rand(n), torch.randperm(n)

    program = torch.export.export(
        Mixes(), arguments(4), dynamic_shapes=[{0: batch}, {0: batch}, {0: batch}, {0: batch}], strict=strict
    )
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    loaded = torch.export.load(file).module()
    for n in (4, 9):
        values = arguments(n)
        torch.testing.assert_close(loaded(*values), Mixes()(*values))
