import pytest
import torch
from torch import nn

from dfad_fast.distributed import differentiable, processes
from dfad_fast.networks.optimizers import ScaledOptimizer


def test_an_optimiser_keeps_what_belongs_to_its_own_device_and_graph():
    """A checkpoint holds the rate and flags of the run that wrote it."""
    parameter = nn.Parameter(torch.ones(3))
    written = ScaledOptimizer(torch.optim.Adam([parameter], lr=0.1), torch.device("cpu"), scaled=False)
    rate = torch.tensor(0.2)
    other = ScaledOptimizer(
        torch.optim.Adam([parameter], lr=rate, capturable=True), torch.device("cpu"), scaled=False
    )
    other.load_state_dict(written.state_dict())
    (group,) = other.optimizer.param_groups
    assert group["lr"] is rate
    assert group["capturable"]


@pytest.mark.parametrize("scaled", [False, True])
def test_gradients_are_looked_at_before_the_step_and_without_their_scale(scaled):
    parameter = nn.Parameter(torch.ones(3))
    optimizer = ScaledOptimizer(torch.optim.SGD([parameter], lr=0.1), torch.device("cpu"), scaled)
    seen = []

    def look():
        seen.append((parameter.detach().clone(), parameter.grad.clone()))
        parameter.grad.mul_(2.0)

    optimizer.descend((3.0 * parameter).sum(), look)
    assert torch.equal(seen[0][0], torch.ones(3))
    torch.testing.assert_close(seen[0][1], torch.full((3,), 3.0))
    torch.testing.assert_close(parameter.detach(), torch.full((3,), 1.0 - 0.1 * 6.0))


def test_another_optimizer_shares_the_scale_and_the_clipping():
    first, second = (nn.Parameter(torch.ones(1)) for _ in range(2))
    one = ScaledOptimizer(torch.optim.SGD([first], lr=1.0), torch.device("cpu"), scaled=True, clip_norm=0.5)
    other = one.around(torch.optim.SGD([second], lr=1.0))
    before = one.state_dict()["scaler"]["scale"]
    other.descend((second * float("inf")).sum())  # left out, and the scale halved
    assert one.state_dict()["scaler"]["scale"] == before / 2
    assert second == 1
    other.descend((3.0 * second).sum())
    assert (first.item(), second.item()) == (1.0, pytest.approx(0.5))


@pytest.mark.parametrize("overflows", [False, True])
def test_a_step_that_overflows_in_another_process_is_left_out_here_too(monkeypatch, overflows):
    monkeypatch.setattr(processes, "count", lambda: 2)
    monkeypatch.setattr(differentiable, "mean", lambda own: (own + float(overflows)) / 2)
    first, images = (nn.Parameter(torch.ones(1)) for _ in range(2))
    one = ScaledOptimizer(torch.optim.SGD([first], lr=0.5), torch.device("cpu"), scaled=True)
    before = one.state_dict()["scaler"]["scale"]
    one.around(torch.optim.SGD([images], lr=0.5), each_own=True).descend(images.sum())
    assert images == (1.0 if overflows else 0.5)
    assert one.state_dict()["scaler"]["scale"] == (before / 2 if overflows else before)
