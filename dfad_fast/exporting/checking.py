"""Does a file answer as the student does?"""

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
    """What the student says to the images that files are checked on."""

    images: Tensor
    """[N, C, H, W]"""
    labels: Tensor | None
    """[N], of real images."""
    logits: Tensor
    """[N + M, classes], see :func:`ask`."""

    @property
    def largest(self) -> float:
        """The largest logit, without its sign."""
        return self.logits.abs().max().item()

    def difference(self, logits: Tensor) -> float:
        """The largest difference of ``logits`` from the student's."""
        return (logits - self.logits).abs().max().item()

    def agreement(self, logits: Tensor) -> float:
        """The fraction of images that ``logits`` put into the student's class."""
        same = logits.argmax(1) == self.logits.argmax(1)
        return same[: len(self.images)].double().mean().item()

    def accuracy(self, logits: Tensor) -> float | None:
        """The fraction of images that ``logits`` put into their own class; None without labels."""
        if self.labels is None:
            return None
        return (logits[: len(self.images)].argmax(1) == self.labels).double().mean().item()


@torch.inference_mode()
def ask(predict: Predict, images: Tensor) -> Tensor:
    """Logits [N + M, classes] of ``images`` [N, C, H, W] in batches of 64, then of the first M again.

    Those one by one and three together: what knows only one size of batch fails.
    """
    batches = [*images.split(BATCH), *images[:4].split(1), images[:3]]
    return torch.cat([predict(batch) for batch in batches])


def answers_of(student: Predict, images: Tensor, labels: Tensor | None) -> Answers:
    """Raises RunError for a student that answers NaN or inf, or fails at some size of batch."""
    try:
        logits = ask(student, images)
    except Exception as error:
        reason = in_one_line(error)
        raise RunError(
            f"the student does not answer batches of every size ({reason}), so nothing is exported: change the "
            "network, to give logits [B, classes] of B images, be it one"
        ) from error
    if not logits.isfinite().all():
        raise RunError(
            "the student answers NaN or inf, so nothing is exported: look at its weights, and at --mean and --std of "
            "the run"
        )
    return Answers(images, labels, logits)


def write_checked(
    path: Path,
    write: Callable[[Path], None],
    read: Callable[[Path], Predict],
    expected: Answers,
    tolerance: float,
    remedy: str = "take another --format",
) -> tuple[Predict, Tensor]:
    """Lets ``write`` write a file, which gets its name ``path`` only if it answers as expected when it is read.

    ``tolerance`` is the difference that is allowed, as a fraction of the largest logit; ``remedy`` what to do about a
    file that is not kept. Returns what was read, and its logits.

    Raises RunError where the file cannot be run, answers otherwise, or cannot be written.
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
        came = "NaN or inf" if shapes[0] == shapes[1] else f"logits {shapes[0]} in place of {shapes[1]}"
        raise RunError(f"{path.name} was exported, but answers {came}, so it is not kept: {remedy}")
    difference, allowed = expected.difference(logits), tolerance * expected.largest
    if difference > allowed:
        raise RunError(
            f"{path.name} was exported, but answers otherwise than the student: the logits differ by {difference:.3g}, "
            f"where at most {allowed:.3g} is rounding, so it is not kept: {remedy}, or look for what is "
            "drawn by chance, or is not in the state dictionary, in the network"
        )
