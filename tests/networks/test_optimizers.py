import torch
from torch import nn

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
