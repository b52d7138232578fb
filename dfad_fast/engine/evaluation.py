"""How good a student is: on labeled images if there are any, otherwise on generated ones."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dfad_fast.data.labeled_batches import (
    Batches,
    read_batches,
    refuse_single_batch,
    refuse_unknown_labels,
)
from dfad_fast.distributed import collectives
from dfad_fast.engine.global_randomness import undisturbed
from dfad_fast.engine.guessing import warn_of_guesses
from dfad_fast.errors import DFADFastWarning, UsageError, in_one_line
from dfad_fast.models.black_box import BlackBoxTeacher
from dfad_fast.models.reading.check import device_of, image_dtype
from dfad_fast.models.reading.taps import Taps
from dfad_fast.models.surgery.sharding import is_sharded
from dfad_fast.networks.balance import ClassBalance, balance_of_counts
from dfad_fast.networks.trio import Trio
from dfad_fast.ops import l1_discrepancy
from dfad_fast.precision import at_least_float32


@dataclass(frozen=True)
class TestScores:
    """Fractions of the labeled test images.

    Those that need the teacher's answers are None for a black box, whose queries are spent only on images that the
    student learns from.
    """

    __test__ = False  # not a test class, whatever pytest thinks of its name

    teacher_accuracy: float | None
    student_accuracy: float
    agreement: float | None
    largest_class: float
    """Fraction of the images for which the student gives its most frequent class."""
    largest_class_teacher: float | None
    images: int


@dataclass(frozen=True)
class GeneratedScores:
    """What can be measured without data, on ``images`` generated images that no step trained on."""

    images: int
    discrepancy: float
    agreement: float
    balance: ClassBalance
    """The teacher's answers."""
    student_balance: ClassBalance
    variety: float
    """How much the images differ: the root mean square deviation of each pixel from its mean over the images, divided
    by the same deviation of all pixels from their common mean. 0 if all images are identical."""
    sign_agreement: dict[str, float]
    """Per stage of the teacher: fraction of hidden neurons that are on or off in both student and teacher."""


def ask(network: nn.Module, images: Tensor) -> Tensor:
    """The network's logits for images [B, C, H, W], moved to the device and dtype of its parameters.

    It gets a copy, since a network may modify its input in place.
    """
    return network(images.to(device_of(network), image_dtype(network), copy=True))


@torch.no_grad()
def accuracy(network: nn.Module, batches: Batches) -> float:
    """Fraction of images that ``network``, in eval mode, classifies as their label."""
    network.eval()
    right, seen = 0, 0
    for images, labels in read_batches(batches):
        answers = ask(network, images).argmax(1)
        right += int((answers == labels.to(answers.device)).sum())
        seen += len(labels)
    if not seen:
        raise UsageError("there is nothing to evaluate on: the loader gave no batch")
    return right / seen


class TestSet:
    """Labeled images with the frozen teacher's answers, which are computed once. Only the first process reads them.

    Changes neither the images nor the global sources of randomness, though a loader may draw from these. Warns of
    images that are not of ``image_shape``, and of a teacher that only guesses. Raises UsageError for batches that are
    not images with labels, see :mod:`dfad_fast.data.labeled_batches`.
    """

    __test__ = False

    def __init__(
        self,
        teacher: nn.Module,
        batches: Batches,
        device: torch.device | None = None,
        image_shape: tuple[int, int, int] | None = None,
    ) -> None:
        self._device = device_of(teacher) if device is None else device
        self._expected = image_shape
        self._answers: list[Tensor] = []
        self._classes = teacher.classes if isinstance(teacher, BlackBoxTeacher) else None
        self._labels: list[Tensor] = []
        refuse_single_batch(batches)
        with undisturbed(self._device):
            # An iterator would be exhausted the second time.
            self._batches = list(batches) if isinstance(batches, Iterator) else batches
            if is_sharded(teacher):
                self._ask(teacher)  # all processes have to run it
            else:
                collectives.on_first(lambda: self._ask(teacher))

    @torch.no_grad()
    def _ask(self, teacher: nn.Module) -> None:
        teacher.eval()
        for images, labels in read_batches(self._batches):
            if self._classes is not None:
                self._note_labels(labels, self._classes)
                continue
            try:
                logits = ask(teacher, images)
            except RuntimeError as error:
                full = isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error)
                raise UsageError(
                    f"the teacher cannot take the test images {list(images.shape)} ({in_one_line(error)}): give "
                    + ("smaller batches" if full else "images of its own kind")
                ) from error
            self._warn_of_other_size(images)
            self._note_labels(labels, logits.shape[1])
            self._answers.append(logits.argmax(1))
        if not sum(map(len, self._labels)):
            raise UsageError("there is nothing to evaluate on: the loader gave no batch")
        if self._answers:
            warn_of_guesses(torch.cat(self._answers), torch.cat(self._labels))

    def _warn_of_other_size(self, images: Tensor) -> None:
        if self._expected is None or images.shape[1:] == self._expected:
            return
        warnings.warn(
            f"test images are {list(images.shape[1:])} and the run's image shape is {list(self._expected)}: resize "
            "them, or the accuracy is that on images of another size",
            DFADFastWarning,
            stacklevel=2,
        )
        self._expected = None  # once is enough

    def _note_labels(self, labels: Tensor, classes: int) -> None:
        refuse_unknown_labels(labels, classes)
        self._labels.append(labels.to(self._device))

    def scores(self, student: nn.Module) -> TestScores:
        """The student's scores in eval mode. Raises UsageError if the order of the batches has changed."""
        with undisturbed(self._device):
            return collectives.on_first(lambda: self._scores(student))

    @torch.no_grad()
    def _scores(self, student: nn.Module) -> TestScores:
        student.eval()
        answers, seen = [], []
        for images, batch_labels in read_batches(self._batches):
            answers.append(ask(student, images).argmax(1))
            seen.append(batch_labels.to(self._device))
        labels, teacher = torch.cat(self._labels), torch.cat(self._answers) if self._answers else None
        if not seen or not torch.equal(torch.cat(seen), labels):
            raise UsageError("the test loader gave its images in another order: make it with shuffle=False")
        student_answers = torch.cat(answers)
        return TestScores(
            teacher_accuracy=None if teacher is None else _share(teacher == labels),
            student_accuracy=_share(student_answers == labels),
            agreement=None if teacher is None else _share(student_answers == teacher),
            largest_class=student_answers.bincount().max().item() / len(labels),
            largest_class_teacher=None if teacher is None else teacher.bincount().max().item() / len(labels),
            images=len(labels),
        )


def _share(right: Tensor) -> float:
    return right.float().mean().item()


def sign_agreement(student: Tensor, teacher: Tensor) -> float:
    """Fraction of hidden neurons that are on (> 0) or off in both. Takes pre-activations of equal shape [B, ...]."""
    return ((student > 0) == (teacher > 0)).float().mean().item()


@torch.no_grad()
def generated_scores(
    networks: Trio,
    batches: Iterable[Tensor],
    count: int,
    stages: bool = True,
    connectors_trained: bool = False,
    look: Callable[[Tensor, Tensor, Tensor], None] = lambda images, teacher, student: None,
) -> GeneratedScores:
    """Compares student and teacher on batches [B, C, H, W] with ``count`` images in total.

    Returns discrepancy, agreement, classes and, with ``stages``, sign agreement per stage. One batch is in memory at a
    time. All networks are in eval mode.

    A stage that is narrower in the student is compared through its connector, so only if the connector was trained.
    ``look`` is called with each batch and both networks' logits for it.
    """
    networks.teacher.eval()
    networks.student.eval()
    networks.connectors.eval()
    kept = [
        (pair, connector)
        for pair, connector in zip(networks.tap_pairs, networks.connectors, strict=True)
        if stages and (connectors_trained or isinstance(connector, nn.Identity))
    ]
    teacher_taps = Taps(networks.teacher, [t for (t, _), _ in kept])
    student_taps = Taps(networks.student, [s for (_, s), _ in kept])
    discrepancy = agreement = 0.0
    signs = [0.0] * len(kept)
    counts, student_counts = torch.zeros(2, networks.classes, dtype=torch.int64, device="cpu")
    variety = _Variety()
    for batch in batches:
        with teacher_taps.record() as teacher_features:
            teacher = at_least_float32(ask(networks.teacher, batch))
        with student_taps.record() as student_features:
            student = at_least_float32(ask(networks.student, batch))
        share = len(batch) / count
        answers = teacher.argmax(1)
        discrepancy += share * l1_discrepancy(student, teacher).item()
        student_answers = student.argmax(1)
        agreement += share * (student_answers == answers).float().mean().item()
        counts += torch.bincount(answers, minlength=networks.classes).cpu()
        student_counts += torch.bincount(student_answers, minlength=networks.classes).cpu()
        variety.add(batch)
        for stage, (_, connector) in enumerate(kept):
            signs[stage] += share * sign_agreement(
                connector(student_features[stage]), teacher_features[stage]
            )
        look(batch, teacher, student)
    names = [str(t) for (t, _), _ in kept]
    return GeneratedScores(
        count,
        discrepancy,
        agreement,
        balance_of_counts(counts),
        balance_of_counts(student_counts),
        variety.value(),
        dict(zip(names, signs, strict=True)),
    )


class _Variety:
    """See :attr:`GeneratedScores.variety`, batch by batch."""

    def __init__(self) -> None:
        self._images = 0
        self._first = torch.empty(0, device="cpu")
        self._sum = self._squares = torch.zeros((), dtype=torch.float64, device="cpu")

    def add(self, batch: Tensor) -> None:
        if not self._images:
            self._first = batch[:1].clone()
        # Relative to the first image, so that identical images give exactly 0.
        apart = at_least_float32(batch) - self._first
        self._sum = self._sum.to(batch.device) + apart.sum(0, dtype=torch.float64)
        self._squares = self._squares.to(batch.device) + apart.square().sum(0, dtype=torch.float64)
        self._images += len(batch)

    def value(self) -> float:
        mean = self._sum / self._images
        between = (self._squares / self._images - mean.square()).clamp_min(0).mean()
        within = (self._first[0].double() + mean).var(correction=0)
        total = between + within
        return (between / total).sqrt().item() if total > 0 else 0.0
