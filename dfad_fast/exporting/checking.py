"""Checks whether an exported file gives the same logits as the student."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dfad_fast.errors import RunError, in_one_line
from dfad_fast.exporting.formats import Predict
from dfad_fast.exporting.quiet import quietly
from dfad_fast.runs.whole_files import write_whole

BATCH = 64


@dataclass(frozen=True)
class Answers:
    """The student's logits for the images on which files are checked."""

    images: Tensor
    """[N, C, H, W]"""
    labels: Tensor | None
    """[N], for real images; otherwise None."""
    logits: Tensor
    """[N + M, classes], see :func:`ask`."""

    @property
    def largest(self) -> float:
        """The largest absolute value of a logit."""
        return self.logits.abs().max().item()

    def difference(self, logits: Tensor) -> float:
        """The largest absolute difference between ``logits`` and the student's."""
        return (logits - self.logits).abs().max().item()

    def agreement(self, logits: Tensor) -> float:
        """The fraction of images for which ``logits`` predict the same class as the student, in [0, 1]."""
        same = logits.argmax(1) == self.logits.argmax(1)
        return same[: len(self.images)].double().mean().item()

    def accuracy(self, logits: Tensor) -> float | None:
        """The fraction of images that ``logits`` classify correctly, in [0, 1]; None without labels."""
        if self.labels is None:
            return None
        return (logits[: len(self.images)].argmax(1) == self.labels).double().mean().item()


@torch.inference_mode()
def ask(predict: Predict, images: Tensor) -> Tensor:
    """Logits [N + M, classes] of ``images`` [N, C, H, W] in batches of 64, then of the first images again.

    These M are four images one by one and three together, so a network that supports only one batch size fails.
    """
    batches = [*images.split(BATCH), *images[:4].split(1), images[:3]]
    return torch.cat([predict(batch) for batch in batches])


def answers_of(student: Predict, images: Tensor, labels: Tensor | None) -> Answers:
    """Raises RunError if the student returns NaN or inf, or fails at some batch size."""
    try:
        logits = ask(student, images)
    except Exception as error:
        reason = in_one_line(error)
        raise RunError(
            f"the student fails at some batch sizes ({reason}), so nothing is exported: make the network return logits "
            "[B, classes] for any number B of images, including 1"
        ) from error
    if not logits.isfinite().all():
        raise RunError(
            "the student returns NaN or inf, so nothing is exported: check its weights, and --mean and --std of the run"
        )
    return Answers(images, labels, logits)


def write_checked(
    path: Path,
    write: Callable[[Path], None],
    read: Callable[[Path], Predict],
    expected: Answers,
    tolerance: float,
    remedy: str = "choose another --format",
) -> tuple[Predict, Tensor]:
    """Writes a draft file, reads it back, and renames it to ``path`` only if its logits match.

    ``tolerance`` is the allowed difference as a fraction of the largest logit. ``remedy`` is the advice in the error
    about a file that is not kept. Returns the loaded network and its logits.

    Raises RunError if the file cannot be run, its logits differ, or it cannot be written.
    """
    passed: list[tuple[Predict, Tensor]] = []

    def write_and_check(draft: Path) -> None:
        write(draft)
        predict, logits = _run(path, lambda: read(draft), expected.images, remedy)
        _refuse_other_answers(path, logits, expected, tolerance, remedy)
        passed.append((predict, logits))

    write_whole(path, write_and_check)
    return passed[0]


def _run(path: Path, read: Callable[[], Predict], images: Tensor, remedy: str) -> tuple[Predict, Tensor]:
    try:
        with quietly():
            predict = read()
            return predict, ask(predict, images)
    except Exception as error:
        reason = in_one_line(error)
        raise RunError(
            f"{path.name} was exported, but cannot be run ({reason}), so it is not kept: {remedy}"
        ) from error


def _refuse_other_answers(
    path: Path, logits: Tensor, expected: Answers, tolerance: float, remedy: str
) -> None:
    shapes = list(logits.shape), list(expected.logits.shape)
    if shapes[0] != shapes[1] or not logits.isfinite().all():
        came = "NaN or inf" if shapes[0] == shapes[1] else f"logits {shapes[0]} instead of {shapes[1]}"
        raise RunError(f"{path.name} was exported, but returns {came}, so it is not kept: {remedy}")
    difference, allowed = expected.difference(logits), tolerance * expected.largest
    if difference > allowed:
        raise RunError(
            f"{path.name} was exported, but does not match the student: the logits differ by {difference:.3g}, but "
            f"rounding explains at most {allowed:.3g}, so it is not kept: {remedy}, or look for random draws in the "
            "network and for values that are not in its state_dict"
        )
