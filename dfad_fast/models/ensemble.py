"""Several teachers that answer as one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dfad_fast.errors import UsageError, unknown_name
from dfad_fast.models.black_box import is_black_box
from dfad_fast.models.reading.answers import find_logits
from dfad_fast.models.surgery.wrappers import unwrapped

MEANS = ("logits", "probabilities")


class Ensemble(nn.Module):
    """Maps images [B, C, H, W] to the weighted mean of its members' answers, [B, classes].

    Args:
        members: at least two networks of as many classes, each out of what was wrapped around it. They are shared,
            not copied.
        mean: of ``logits``, or of ``probabilities``, which are answered as their logarithms.
        weights: a positive one for each member, of any sum; None for equal ones.

    Raises:
        UsageError: fewer than two members, one that is given twice or is no network, an unknown mean, weights that are
            not positive or not as many as members.
    """

    def __init__(
        self, members: Sequence[nn.Module], mean: str = "logits", weights: Sequence[float] | None = None
    ) -> None:
        super().__init__()
        if len(members) < 2:
            raise UsageError(
                f"an ensemble has at least 2 members, got {len(members)}: give the network itself"
            )
        for member in members:
            if is_black_box(member):
                raise UsageError(
                    "an ensemble's members are networks, got BlackBoxTeacher: average the answers in one callable of "
                    "one BlackBoxTeacher"
                )
            if not isinstance(member, nn.Module) or isinstance(member, Ensemble):
                raise UsageError(
                    f"an ensemble's members are networks (nn.Module), got {type(member).__name__}: name the single "
                    "networks"
                )
        if len(set(members)) < len(members):
            raise UsageError("a member of the ensemble is given twice: give it once, with a larger weight")
        if mean not in MEANS:
            raise unknown_name("mean of an ensemble", mean, MEANS)
        self.mean = mean
        self.weights = _shares(weights, len(members))
        self.members = nn.ModuleList(unwrapped(member) for member in members)

    def forward(self, images: Tensor) -> Tensor:
        answers = [_logits(member(images), len(images)) for member in self.members]
        if self.mean == "logits":
            return torch.stack([w * x for w, x in zip(self.weights, answers, strict=True)]).sum(0)
        logs = [F.log_softmax(x, dim=1) + math.log(w) for w, x in zip(self.weights, answers, strict=True)]
        return torch.logsumexp(torch.stack(logs), dim=0)

    def with_members(self, members: Sequence[nn.Module]) -> Ensemble:
        """Another one that averages ``members`` as this one does its own."""
        return Ensemble(members, self.mean, self.weights)

    def describe(self) -> dict[str, Any]:
        """What is recorded of it, as plain values."""
        return {"members": len(self.members), "mean": self.mean, "weights": self.weights}


def as_teacher(teacher: nn.Module | Sequence[nn.Module]) -> nn.Module:
    """The network itself, or an :class:`Ensemble` of the networks with the mean of their logits."""
    return teacher if isinstance(teacher, nn.Module) else Ensemble(teacher)


def named_members(network: nn.Module, what: str = "teacher") -> list[tuple[str, nn.Module]]:
    """The members of an ensemble with what errors call them, or the network alone."""
    if not isinstance(network, Ensemble):
        return [(what, network)]
    return [(f"{what}'s member {i}", member) for i, member in enumerate(network.members)]


def path_of_member(index: int) -> str:
    """What paths of submodules of that member begin with."""
    return f"members.{index}."


def _shares(weights: Sequence[float] | None, members: int) -> list[float]:
    given = [1.0] * members if weights is None else [float(weight) for weight in weights]
    if len(given) != members:
        raise UsageError(f"an ensemble of {members} members has {members} weights, got {len(given)}")
    if not all(0 < weight < math.inf for weight in given):
        raise UsageError(
            f"an ensemble's weights are positive and finite, got {given}: leave a member out instead"
        )
    return [weight / sum(given) for weight in given]


def _logits(answer: object, images: int) -> Tensor:
    logits = find_logits(answer, images)
    if logits is None:
        raise UsageError(
            f"a member of the ensemble answers {images} images with {type(answer).__name__} that holds no logits "
            "[B, classes]: wrap it in a module that returns the logits alone"
        )
    return logits
