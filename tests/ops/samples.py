"""Calls of every public op on small inputs: for tests that ask the same of each op."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from dfad_fast.ops import (
    batch_norm_act,
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


def mixing(x):
    """lam and perm of a batch, as a tracer can follow them: a cycle, which is not its own inverse."""
    batch = x.shape[0]
    return torch.linspace(0.1, 0.9, batch, device=x.device), torch.arange(batch, device=x.device).roll(1)


@dataclass(frozen=True)
class Call:
    """An op as a function of two tensors of one shape, differentiable in ``inputs`` of them; gives one tensor."""

    op: str  # the dispatcher's
    function: Callable
    inputs: tuple = (0, 1)
    twice: bool = True  # whether its second derivative is not 0


def _hinge_list(s, t):
    return boundary_hinge_loss([s, 2 * s[:1]], [t, t[:1]], 0.75, "sum", [1.0, 0.5])


def _virtual(x, y):
    mixed_x, mixed_y = virtual_batch(x, y, *mixing(x))
    return (mixed_x.square() * mixed_y).sum()


def _statistics_loss(x, y):
    """Statistics of x and of a part of it, held to those of y."""
    running = [s.detach() for s in channel_statistics([y, y[:3]])]
    return batch_norm_statistics_loss([x, x[:2]], [s[0] for s in running], [s[1] for s in running])


CALLS = {
    "hinge": Call("boundary_hinge_loss", boundary_hinge_loss, (0,)),
    "hinge_none": Call("boundary_hinge_loss", lambda s, t: boundary_hinge_loss(s, t, 0.5, "none"), (0,)),
    "hinge_list": Call("boundary_hinge_loss", _hinge_list, (0,)),
    "hinge_on_bits": Call("boundary_hinge_loss", lambda s, t: boundary_hinge_loss(s, pack_signs(t)), (0,)),
    "hinge_agreement": Call(
        "boundary_hinge_loss", lambda s, t: sum(boundary_hinge_loss_with_agreement(s, t, 0.5)), (0,)
    ),
    "l1": Call("l1_discrepancy", l1_discrepancy, twice=False),
    "l1_none": Call("l1_discrepancy", lambda s, t: l1_discrepancy(s, t, "none"), twice=False),
    "kl": Call("kl_discrepancy", lambda s, t: kl_discrepancy(s, t, 2.0)),
    "kl_none": Call("kl_discrepancy", lambda s, t: kl_discrepancy(s, t, 2.0, "none")),
    "channel_statistics": Call("channel_statistics", lambda x, y: channel_statistics(x)[1] * y[0], (0,)),
    "batch_norm_statistics": Call("channel_statistics", _statistics_loss, (0,)),
    "batch_norm_act": Call("batch_norm_act", lambda s, t: batch_norm_act(s, residual=t)),
    "mixup": Call("mixup", lambda x, y: mixup(x, *mixing(x)).square() * y, (0,)),
    "virtual_batch": Call("mixup", _virtual),
    "interpolated_l1": Call("interpolated_l1", lambda s, t: interpolated_l1(s, t, *mixing(s)), twice=False),
    "interpolated_l1_none": Call(
        "interpolated_l1", lambda s, t: interpolated_l1(s, t, 0.25, mixing(s)[1], "none"), twice=False
    ),
}
