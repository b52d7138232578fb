"""Chooses the teacher's channels that initialize the student's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from dfad_fast.models.starting.channels import UNKNOWN, Makers, Map
from dfad_fast.models.starting.following import IMAGES
from dfad_fast.models.starting.moments import Moments

_MANY = 512
"""With more channels, the choice is by variance, which saves seconds."""

Channels = Literal["even", "scale", "least-squares"]
"""Evenly spaced ones; those with the largest batch norm scales; or those that best predict the others."""


def choose_channels(
    teacher: nn.Module,
    of: Map,
    to: Map,
    matched: Mapping[str, str],
    channels: Channels,
    moments: Mapping[str, Moments],
) -> dict[int, int]:
    """Maps classes of the student's channels to the teacher's, the same for all layers with these channels.

    Classes correspond if the same matched layers produce them. If the networks differ in their sums, the teacher's
    classes that share most of these layers correspond.
    """
    own_pools = to.pools({IMAGES: IMAGES, **{path: path for path in matched}})
    pools = of.pools({IMAGES: IMAGES, **{other: path for path, other in matched.items()}})
    scores = _scores(teacher, of, channels)
    chosen = {UNKNOWN: UNKNOWN}
    for made_by, wanted in own_pools.items():
        there = pools.get(made_by) or _most_alike(made_by, pools, own_pools)
        if len(there) < len(wanted) or ((IMAGES, 1) in made_by and len(there) != len(wanted)):
            continue
        kept = [there[i * len(there) // len(wanted)] for i in range(len(wanted))]
        if channels == "least-squares" and len(there) > len(wanted):
            kept = _most_telling(there, len(wanted), of, moments) or kept
        elif any(name in scores for name in there):
            kept = sorted(sorted(there, key=lambda name: -scores.get(name, 0.0))[: len(wanted)])
        chosen.update(zip(wanted, kept, strict=True))
    return chosen


def _most_alike(
    made_by: Makers,
    pools: Mapping[Makers, list[int]],
    own_pools: Mapping[Makers, list[int]],
) -> list[int]:
    """The classes produced by more than half of the same layers; empty if there are none."""
    free = [names for names in pools if names not in own_pools and len(names & made_by) * 2 > len(made_by)]
    return pools[max(free, key=lambda names: len(names & made_by))] if free else []


def _scores(teacher: nn.Module, of: Map, channels: Channels) -> dict[int, float]:
    """For each class the sum of its absolute batch norm scales; empty unless ``channels`` is ``scale``."""
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
    """Greedily chooses the channels that tell the next layers most about the others.

    Linear least squares predicts from them the others' contribution to the next layers. Empty if no measured layer
    reads the channels, as for attention's queries.
    """
    total = torch.zeros(len(there), len(there), dtype=torch.float64, device="cpu")
    positions = {name: i for i, name in enumerate(there)}
    for own in moments.values():
        names = of.classes.of_all(own.channels)
        rows = [i for i, name in enumerate(names) if name in positions]
        if not rows:
            continue
        own_part = own.covariance[rows][:, rows] * own.energy[rows].sqrt().outer(own.energy[rows].sqrt())
        at = torch.tensor([positions[names[i]] for i in rows], device="cpu")
        total.index_put_((at[:, None], at[None, :]), own_part / own.output_variance, accumulate=True)
    if not bool(total.diagonal().any()):
        return []
    kept = _by_gain(total, wanted) if len(there) <= _MANY else _by_variance(total, wanted)
    return [there[i] for i in sorted(kept)]


def _by_gain(residual: Tensor, wanted: int) -> list[int]:
    """Repeatedly takes the channel that leaves the least unexplained variance over all channels."""
    kept: list[int] = []
    for _ in range(wanted):
        variance = residual.diagonal().clamp(min=0)
        floor = 1e-9 * float(variance.max()) + 1e-300
        gain = residual.square().sum(0) / variance.clamp(min=floor)
        gain[kept] = -1.0
        kept.append(int(gain.argmax()))
        column = residual[:, kept[-1]].clone()
        if column[kept[-1]] > 0:
            residual -= column.outer(column) / column[kept[-1]]
    return kept


def _by_variance(total: Tensor, wanted: int) -> list[int]:
    """Repeatedly takes the channel with the most unexplained variance: a pivoted Cholesky decomposition."""
    kept: list[int] = []
    left = total.diagonal().clone()
    rows = total.new_zeros(wanted, len(total))
    for i in range(wanted):
        left[kept] = -1.0
        kept.append(int(left.argmax()))
        if left[kept[-1]] > 0:
            row = total[kept[-1]] - rows[:i, kept[-1]] @ rows[:i]
            rows[i] = row / left[kept[-1]].sqrt()
            left -= rows[i].square()
    return kept
