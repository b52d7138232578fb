"""Several teachers combined into one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dfad_fast.errors import UsageError, unknown_name
from dfad_fast.models.black_box import is_black_box
from dfad_fast.models.reading.answers import find_logits
from dfad_fast.models.reading.given import refuse_no_network
from dfad_fast.models.surgery.wrappers import unwrapped

MEANS = ("logits", "probabilities")


class Ensemble(nn.Module):
    """Maps images [B, C, H, W] to the weighted mean of its members' answers, [B, classes].

    Args:
        members: at least two networks with the same number of classes; wrappers such as DataParallel are removed. They
            are shared, not copied.
        mean: of ``logits``, or of ``probabilities``, which are returned as logarithms.
        weights: a positive weight for each member, with any sum; None for equal weights.

    Raises:
        UsageError: fewer than two members, a member that is given twice or is not a network, an unknown mean, weights
            that are not positive or of another number than the members.
    """

    def __init__(
        self, members: Sequence[nn.Module], mean: str = "logits", weights: Sequence[float] | None = None
    ) -> None:
        super().__init__()
        if len(members) < 2:
            raise UsageError(
                f"an ensemble needs at least 2 members, got {len(members)}: pass the network itself"
            )
        for member in members:
            if is_black_box(member):
                raise UsageError(
                    "an ensemble's members are networks, got BlackBoxTeacher: average the answers inside the "
                    "callable of one BlackBoxTeacher"
                )
            if not isinstance(member, nn.Module) or isinstance(member, Ensemble):
                raise UsageError(
                    f"an ensemble's members are networks (nn.Module), got {type(member).__name__}: pass the "
                    "individual networks"
                )
        if len(set(members)) < len(members):
            raise UsageError("a member of the ensemble is given twice: give it once, with a larger weight")
        if mean not in MEANS:
            raise unknown_name("mean of an ensemble", mean, MEANS)
        self.mean = mean
        self.weights = _shares(weights, len(members))
        self.members = nn.ModuleList(unwrapped(member) for member in members)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, classes] of images [B, C, H, W], from the weighted mean of logits or of probabilities."""
        answers = [_logits(member(images), len(images)) for member in self.members]
        if self.mean == "logits":
            return torch.stack([w * x for w, x in zip(self.weights, answers, strict=True)]).sum(0)
        logs = [F.log_softmax(x, dim=1) + math.log(w) for w, x in zip(self.weights, answers, strict=True)]
        return torch.logsumexp(torch.stack(logs), dim=0)

    def with_members(self, members: Sequence[nn.Module]) -> Ensemble:
        """An ensemble of ``members`` with this one's mean and weights."""
        return Ensemble(members, self.mean, self.weights)

    def describe(self) -> dict[str, Any]:
        """Its record, as plain values."""
        return {"members": len(self.members), "mean": self.mean, "weights": self.weights}


def as_networks(teacher: nn.Module | Sequence[nn.Module], student: nn.Module) -> tuple[nn.Module, nn.Module]:
    """Both networks. Several teachers become an :class:`Ensemble` that averages their logits.

    Raises UsageError for anything else.
    """
    given = teacher if isinstance(teacher, nn.Module) else _several(teacher)
    refuse_no_network(given, "teacher")
    refuse_no_network(student, "student")
    assert isinstance(given, nn.Module)
    return given, student


def _several(teacher: object) -> object:
    """An ensemble of the networks in a list or the like; anything else as it is."""
    if not isinstance(teacher, Iterable) or isinstance(teacher, str | Mapping):
        return teacher
    return Ensemble(list(teacher))


def named_members(network: nn.Module, what: str = "teacher") -> list[tuple[str, nn.Module]]:
    """The members of an ensemble with their names in errors, or only the network."""
    if not isinstance(network, Ensemble):
        return [(what, network)]
    return [(f"{what}'s member {i}", member) for i, member in enumerate(network.members)]


def path_of_member(index: int) -> str:
    """The prefix of that member's submodule paths."""
    return f"members.{index}."


def _shares(weights: Sequence[float] | None, members: int) -> list[float]:
    given = [1.0] * members if weights is None else [float(weight) for weight in weights]
    if len(given) != members:
        raise UsageError(f"an ensemble of {members} members needs {members} weights, got {len(given)}")
    if not all(0 < weight < math.inf for weight in given):
        raise UsageError(
            f"an ensemble's weights must be positive and finite, got {given}: leave a member out instead"
        )
    return [weight / sum(given) for weight in given]


def _logits(answer: object, images: int) -> Tensor:
    logits = find_logits(answer, images)
    if logits is None:
        raise UsageError(
            f"a member of the ensemble answers {images} images with {type(answer).__name__} that holds no logits "
            "[B, classes]: wrap it in a module that returns only the logits"
        )
    return logits
