"""The best student of a run so far, kept beside the last one."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dfad_fast.distributed import collectives
from dfad_fast.engine.evaluation import TestScores, ask
from dfad_fast.errors import UsageError
from dfad_fast.networks.states import load_state, state_of
from dfad_fast.ops import l1_discrepancy
from dfad_fast.precision import at_least_float32

BY_ACCURACY = "test accuracy"
BY_AGREEMENT = "agreement per class on held-out generated images"
BEST_BY = ("auto", "accuracy", "agreement")
_MOMENTS = 8
_IMAGES = 64  # of each moment
_MOST_BYTES = 64 * 2**20  # of the images of all moments, which go into every checkpoint


@dataclass
class _Moment:
    """Held-out generated images from one moment of the run, with the teacher's and the best student's logits."""

    images: Tensor
    teacher: Tensor
    best: Tensor


class BestStudent:
    """Keeps the weights of the best student among those compared at the run's evaluations.

    ``accuracy``, which ``auto`` means if there are test images, ranks students by accuracy on them, then by agreement
    with the teacher. This selects on the test set, so the selected student's accuracy is optimistic.

    ``agreement``, which needs no labels, ranks students by agreement with the teacher on held-out generated images,
    then by discrepancy. Agreements from different moments are not comparable, since the generator searches for images
    on which the current student fails. So images from up to 8 moments, spread evenly over the run so far, are kept,
    and the current student is compared with the best one on exactly the same images: the kept and the newest ones.
    The score is the mean of the agreements in each of the teacher's classes, since a generator may end up making
    images of only a few classes. A student that has forgotten what earlier generators made therefore loses. On digits
    the student chosen this way had a test accuracy of 58.0, 56.2, 41.6, 56.2, 95.3 and 91.6 %; the last student had
    48.9, 48.7, 39.3, 53.1, 95.3 and 92.2 % (``dfad-vi``, ``dfad-ar-vi`` and ``dfad``, seeds 0 and 1, 350 iterations).
    A student chosen by the mean over all images was about as good as the last.

    Either way, a later student replaces an equally good one.

    Raises UsageError if ``by`` is none of these.
    """

    def __init__(self, by: str = "auto") -> None:
        if by not in BEST_BY:
            raise UsageError(f"unknown best_by {by!r}: expected {', '.join(BEST_BY)}")
        self._asked = by
        self.weights: dict[str, Any] | None = None
        self.iteration = 0
        self.by: str | None = None
        self._accuracy: float | None = None
        self._score: tuple[float, float] = (0.0, 0.0)
        self._moments: list[_Moment] = []
        self._met = 0
        self._stride = 1

    def describe(self) -> dict[str, Any] | None:
        """The best student so far, for the run's records; None before the first comparison.

        The keys are ``iteration``, ``by`` (what was compared), ``value``, and ``accuracy`` on the test images if there
        are any; the last two are fractions.
        """
        if self.weights is None:
            return None
        return {
            "iteration": self.iteration,
            "by": self.by,
            "value": self._score[0],
            "accuracy": self._accuracy,
        }

    def refuse_untested(self) -> None:
        """Raises UsageError if accuracy was requested, which a run without test images cannot measure."""
        if self._asked == "accuracy":
            raise UsageError(
                "best_by accuracy needs labeled test images, and there are none: give some, or choose agreement"
            )

    def meets_on_generated_images(self, tested: bool) -> bool:
        """Whether the best student is chosen on generated images. ``tested``: whether the run has labeled images."""
        return self._asked == "agreement" or not tested

    def meet_on_test_images(self, student: nn.Module, iteration: int, scores: TestScores) -> None:
        """From here on only accuracy counts. Does nothing if agreement was requested."""
        if self._asked == "agreement":
            return
        score = scores.student_accuracy, scores.agreement or 0.0
        if iteration != self.iteration or self.by != BY_ACCURACY:
            if self.by != BY_ACCURACY or score >= self._score:
                self._take(student, iteration, score, scores.student_accuracy)
            self.by, self._moments = BY_ACCURACY, []

    @torch.no_grad()
    def meet_on_generated_images(
        self,
        student: nn.Module,
        iteration: int,
        images: Tensor,
        teacher_logits: Tensor,
        student_logits: Tensor,
        accuracy: float | None = None,
    ) -> None:
        """Compares on held-out ``images`` [B, C, H, W] of the current generator, given both networks' logits for them.

        Uses only the first images of the batch. ``accuracy`` is the student's on test images, kept for ``describe``.
        Does nothing once accuracy counts.
        """
        if self.by == BY_ACCURACY:
            return
        self.by = BY_AGREEMENT
        student.eval()
        most = max(1, _MOST_BYTES // _MOMENTS // images[0].nbytes)
        # Copies, so that the rest of the batch can be freed.
        images, teacher, newest_logits = (
            x[: min(_IMAGES, most)].clone() for x in (images, teacher_logits, student_logits)
        )
        newest = _Moment(images, teacher, newest_logits)
        if self.weights is not None:
            with _holding(student, self.weights):
                newest.best = at_least_float32(ask(student, images))
        judged = [*self._moments, newest]
        own = [at_least_float32(ask(student, moment.images)) for moment in self._moments] + [newest_logits]
        teachers = torch.cat([moment.teacher for moment in judged])
        score = _score(torch.cat(own), teachers)
        best = _score(torch.cat([moment.best for moment in judged]), teachers)
        # The first of several processes decides, since running statistics may differ between them.
        if collectives.on_first(lambda: self.weights is None or score >= best):
            for moment, logits in zip(judged, own, strict=True):
                moment.best = logits
            self._take(student, iteration, score, accuracy)
        else:
            self._score = best
        # For very large images there is room for fewer moments, or none.
        self._keep(newest, most=min(_MOMENTS, _MOST_BYTES // images[0].nbytes))

    def _take(
        self, student: nn.Module, iteration: int, score: tuple[float, float], accuracy: float | None
    ) -> None:
        self.weights = _copied(state_of(student))
        self.iteration, self._score, self._accuracy = iteration, score, accuracy

    def _keep(self, newest: _Moment, most: int) -> None:
        """Keeps every second, fourth, ... moment so far, so that at most ``most`` remain."""
        if most and self._met % self._stride == 0:
            self._moments.append(newest)
        self._met += 1
        if len(self._moments) > most:
            self._moments = self._moments[::2]
            self._stride *= 2

    def state_dict(self) -> dict[str, Any]:
        """Nothing writes to its tensors later."""
        return {
            "weights": self.weights,
            "iteration": self.iteration,
            "by": self.by,
            "score": list(self._score),
            "accuracy": self._accuracy,
            "moments": [vars(moment).copy() for moment in self._moments],
            "met": self._met,
            "stride": self._stride,
        }

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Starts over if the saved best student was chosen by test labels and these must not be used now."""
        if self._asked == "agreement" and state["by"] == BY_ACCURACY:
            return
        self.weights = state["weights"]
        self.iteration, self.by = state["iteration"], state["by"]
        self._score = state["score"][0], state["score"][1]
        # Missing in checkpoints of older versions, whose runs were never both tested and chosen by agreement.
        self._accuracy = state.get("accuracy", self._score[0] if self.by == BY_ACCURACY else None)
        self._moments = [
            _Moment(**{name: tensor.to(device) for name, tensor in moment.items()})
            for moment in state["moments"]
        ]
        self._met, self._stride = state["met"], state["stride"]

    @property
    def tensors(self) -> list[Tensor]:
        """All tensors in ``state_dict``."""
        held = [x for x in (self.weights or {}).values() if isinstance(x, Tensor)]
        return [*held, *(tensor for moment in self._moments for tensor in vars(moment).values())]


class _holding:
    """Gives ``network`` other weights inside the block; restores its own, bit for bit, however the block ends."""

    def __init__(self, network: nn.Module, weights: Mapping[str, Any]) -> None:
        self._network, self._weights = network, weights
        self._own = _copied(state_of(network))

    def __enter__(self) -> None:
        try:
            load_state(self._network, dict(self._weights))
        except BaseException:
            load_state(self._network, self._own)
            raise

    def __exit__(self, *_: object) -> None:
        load_state(self._network, self._own)


def _score(student: Tensor, teacher: Tensor) -> tuple[float, float]:
    """For logits [N, classes]: the mean agreement per class of the teacher, and the negated discrepancy.

    For both, higher is better.
    """
    answers = teacher.argmax(1)
    seen = answers.bincount(minlength=teacher.shape[1])
    alike = answers[student.argmax(1) == answers].bincount(minlength=teacher.shape[1])
    agreement = (alike[seen > 0] / seen[seen > 0]).double().mean().item()
    return agreement, -l1_discrepancy(student, teacher).item()


def _copied(state: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: value.detach().clone() if isinstance(value, Tensor) else copy.deepcopy(value)
        for key, value in state.items()
    }
