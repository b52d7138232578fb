import copy

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


@pytest.mark.parametrize("scaled", [False, True])
def test_optimizers_beside_another_step_down_the_same_loss(scaled):
    def made():
        first, second = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
        beside = [torch.optim.Adam([second], lr=0.25)]
        main = torch.optim.SGD([first], lr=0.1)
        return first, second, ScaledOptimizer(main, torch.device("cpu"), scaled, clip_norm=0.5, beside=beside)

    first, second, optimizer = made()
    optimizer.set_rate(1.0)  # the others keep their own
    optimizer.descend((3.0 * first * second).sum())
    assert (first.item(), second.item()) == (pytest.approx(0.5), pytest.approx(0.75))
    state = optimizer.state_dict()
    assert [len(beside["state"]) for beside in state["beside"]] == [1]
    again, other, resumed = made()
    with torch.no_grad():
        again.copy_(first)
        other.copy_(second)
    resumed.load_state_dict(copy.deepcopy(state))  # it takes the tensors themselves
    resumed.set_rate(1.0)
    for _ in range(2):
        optimizer.descend((3.0 * first * second.square()).sum())
        resumed.descend((3.0 * again * other.square()).sum())
    assert torch.equal(first, again)
    assert torch.equal(second, other)


def test_an_optimizer_beside_another_that_overflows_is_left_out_alone():
    first, second = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    beside = [torch.optim.SGD([second], lr=0.5)]
    main = torch.optim.SGD([first], lr=0.5)
    optimizer = ScaledOptimizer(main, torch.device("cpu"), scaled=True, beside=beside)
    before = optimizer.state_dict()["scaler"]["scale"]
    optimizer.descend((first + second * float("inf")).sum())
    assert (first.item(), second.item()) == (0.5, 1.0)
    assert optimizer.state_dict()["scaler"]["scale"] == before / 2
