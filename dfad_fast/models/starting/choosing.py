"""Which of the teacher's channels the student's channels are begun from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from dfad_fast.models.starting.channels import UNKNOWN, Map
from dfad_fast.models.starting.following import IMAGES
from dfad_fast.models.starting.moments import Moments

Channels = Literal["even", "scale", "least-squares"]
"""Evenly spread ones; those of the largest batch norm scales; or those that the others are best told from."""


def choose_channels(
    teacher: nn.Module,
    of: Map,
    to: Map,
    matched: Mapping[str, str],
    channels: Channels,
    moments: Mapping[str, Moments],
) -> dict[int, int]:
    """For classes of the student's channels those of the teacher's, one and the same for all layers that have them.

    Classes stand for each other where the same matched layers make them. Where the networks differ in what is added to
    what, the teacher's that share most of these layers do.
    """
    own_pools = to.pools({IMAGES: IMAGES, **{path: path for path in matched}})
    pools = of.pools({IMAGES: IMAGES, **{other: path for path, other in matched.items()}})
    scores = _scores(teacher, of, channels)
    chosen = {UNKNOWN: UNKNOWN}
    for made_by, wanted in own_pools.items():
        there = pools.get(made_by) or _most_alike(made_by, pools, own_pools)
        if len(there) < len(wanted) or (IMAGES in made_by and len(there) != len(wanted)):
            continue
        if channels == "least-squares" and len(there) > len(wanted):
            kept = _most_telling(there, len(wanted), of, moments)
        elif scores and len(there) > len(wanted):
            best = sorted(there, key=lambda name: -scores.get(name, 0.0))[: len(wanted)]
            kept = sorted(best)
        else:
            kept = [there[i * len(there) // len(wanted)] for i in range(len(wanted))]
        chosen.update(zip(wanted, kept, strict=True))
    return chosen


def _most_alike(
    made_by: frozenset[str],
    pools: Mapping[frozenset[str], list[int]],
    own_pools: Mapping[frozenset[str], list[int]],
) -> list[int]:
    """The classes made by more than half of the same layers; none where there are no such."""
    free = [names for names in pools if names not in own_pools and len(names & made_by) * 2 > len(made_by)]
    return pools[max(free, key=lambda names: len(names & made_by))] if free else []


def _scores(teacher: nn.Module, of: Map, channels: Channels) -> dict[int, float]:
    """For each class the sum of the sizes of its batch norm scales; empty where they are not asked for."""
    scores: dict[int, float] = {}
    if channels != "scale":
        return scores
    for layer in of.layers.values():
        if layer.kind == ("batch norm",) and "weight" in layer.uses:
            sizes = teacher.get_parameter(f"{layer.path}.weight").detach().abs().tolist()
            for name, size in zip(of.classes.of_all(layer.uses["weight"].channels[0]), sizes, strict=True):
                scores[name] = scores.get(name, 0.0) + size
    return scores


def _most_telling(there: Sequence[int], wanted: int, of: Map, moments: Mapping[str, Moments]) -> list[int]:
    """Greedily, the channels from which linear least squares tells most of what the others give to the next layers."""
    total = torch.zeros(len(there), len(there), dtype=torch.float64)
    positions = {name: i for i, name in enumerate(there)}
    for own in moments.values():
        names = of.classes.of_all(own.channels)
        rows = [i for i, name in enumerate(names) if name in positions]
        if not rows:
            continue
        own_part = own.covariance[rows][:, rows] * own.energy[rows].sqrt().outer(own.energy[rows].sqrt())
        at = torch.tensor([positions[names[i]] for i in rows])
        total.index_put_((at[:, None], at[None, :]), own_part / own.output_variance, accumulate=True)
    kept: list[int] = []
    for _ in range(wanted):
        kept.append(_pivot(total, kept))
        column = total[:, kept[-1]].clone()
        if column[kept[-1]] > 0:
            total -= column.outer(column) / column[kept[-1]]
    return [there[i] for i in sorted(kept)]


def _pivot(residual: Tensor, kept: Sequence[int]) -> int:
    """The channel whose choice leaves least of the others unexplained."""
    variance = residual.diagonal().clamp(min=0)
    floor = 1e-9 * float(variance.max()) + 1e-300
    gain = residual.square().sum(0) / variance.clamp(min=floor)
    gain[list(kept)] = -1.0
    return int(gain.argmax())
