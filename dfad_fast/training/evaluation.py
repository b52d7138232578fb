"""How good is a student? On labelled images where there are some, on generated ones where there are none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dfad_fast import processes
from dfad_fast.errors import UsageError
from dfad_fast.models.sharding import is_sharded
from dfad_fast.models.taps import Taps
from dfad_fast.ops import l1_discrepancy
from dfad_fast.training.networks import Networks

Batches = Iterable[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class TestScores:
    """Fractions of the labelled test images."""

    __test__ = False  # not a test class, whatever pytest thinks of its name

    teacher_accuracy: float
    student_accuracy: float
    agreement: float


@dataclass(frozen=True)
class GeneratedScores:
    """What can be said without any data, on generated images that no step was taken on."""

    discrepancy: float
    agreement: float
    sign_agreement: dict[str, float]
    """Per stage of the teacher: fraction of hidden neurons that student and teacher have on or off alike."""


@torch.no_grad()
def accuracy(network: nn.Module, batches: Batches) -> float:
    """Fraction of images on which ``network``, in eval mode, answers the label."""
    network.eval()
    device = next(network.parameters()).device
    right, seen = torch.zeros((), dtype=torch.int64, device=device), 0
    for images, labels in batches:
        right += (network(images.to(device)).argmax(1) == labels.to(device)).sum()
        seen += len(labels)
    if not seen:
        raise UsageError("there is nothing to evaluate on: the loader gave no batch")
    return right.item() / seen


class TestSet:
    """Labelled images with the frozen teacher's answers, which are computed once; looked at by the first process."""

    __test__ = False

    def __init__(self, teacher: nn.Module, batches: Batches) -> None:
        self._device = next(teacher.parameters()).device
        self._answers: list[Tensor] = []
        self._labels: list[Tensor] = []
        # An iterator would be empty the second time.
        self._batches = list(batches) if isinstance(batches, Iterator) else batches
        if is_sharded(teacher):
            self._ask(teacher)  # which is done together
        else:
            processes.on_first(lambda: self._ask(teacher))

    @torch.no_grad()
    def _ask(self, teacher: nn.Module) -> None:
        teacher.eval()
        for images, labels in self._batches:
            self._answers.append(teacher(images.to(self._device)).argmax(1))
            self._labels.append(labels.to(self._device))
        if not self._labels:
            raise UsageError("there is nothing to evaluate on: the loader gave no batch")

    def scores(self, student: nn.Module) -> TestScores:
        """The student's scores in eval mode. Raises UsageError if the batches come in another order than before."""
        return processes.on_first(lambda: self._scores(student))

    @torch.no_grad()
    def _scores(self, student: nn.Module) -> TestScores:
        student.eval()
        answers, seen = [], []
        for images, batch_labels in self._batches:
            answers.append(student(images.to(self._device)).argmax(1))
            seen.append(batch_labels.to(self._device))
        labels, teacher, student_answers = (
            torch.cat(self._labels),
            torch.cat(self._answers),
            torch.cat(answers),
        )
        if not torch.equal(torch.cat(seen), labels):
            raise UsageError("the test loader gave its images in another order: make it with shuffle=False")
        return TestScores(
            teacher_accuracy=(teacher == labels).float().mean().item(),
            student_accuracy=(student_answers == labels).float().mean().item(),
            agreement=(student_answers == teacher).float().mean().item(),
        )


def sign_agreement(student: Tensor, teacher: Tensor) -> float:
    """Fraction of hidden neurons that are on (> 0) or off in both: pre-activations of one shape, [B, ...]."""
    return ((student > 0) == (teacher > 0)).float().mean().item()


@torch.no_grad()
def generated_scores(
    networks: Networks, images: Tensor, batch_size: int, connectors_trained: bool
) -> GeneratedScores:
    """Discrepancy, agreement and per-stage sign agreement on ``images``, all networks in eval mode.

    A stage whose student is narrower than its teacher is compared through its connector, so only if that was
    trained.
    """
    networks.teacher.eval()
    networks.student.eval()
    networks.connectors.eval()
    kept = [
        (pair, connector)
        for pair, connector in zip(networks.tap_pairs, networks.connectors, strict=True)
        if connectors_trained or isinstance(connector, nn.Identity)
    ]
    teacher_taps = Taps(networks.teacher, [t for (t, _), _ in kept])
    student_taps = Taps(networks.student, [s for (_, s), _ in kept])
    discrepancy = agreement = 0.0
    signs = [0.0] * len(kept)
    for batch in images.split(batch_size):
        with teacher_taps.record() as teacher_features:
            teacher = networks.teacher(batch)
        with student_taps.record() as student_features:
            student = networks.student(batch)
        share = len(batch) / len(images)
        discrepancy += share * l1_discrepancy(student, teacher).item()
        agreement += share * (student.argmax(1) == teacher.argmax(1)).float().mean().item()
        for stage, (_, connector) in enumerate(kept):
            signs[stage] += share * sign_agreement(
                connector(student_features[stage]), teacher_features[stage]
            )
    names = [str(t) for (t, _), _ in kept]
    return GeneratedScores(discrepancy, agreement, dict(zip(names, signs, strict=True)))
